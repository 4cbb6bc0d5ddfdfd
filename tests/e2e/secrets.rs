//! What the relay and the cable must not know, looked for in memory and in packets.

use std::str::FromStr;

use tarnet_core::crypto::ServiceId;

use super::lab::serve::{self, Body};
use super::lab::watch::{Capture, holds, memory_of};
use super::lab::{Trio, in_lab};

/// Names that occur nowhere else.
const PORT: &str = "q7vz2m9xk4tbw8ncj3hd6rgf5ys1pael";
/// The label of the service.
const LABEL: &str = "wq3kz81-label-n5c7";
/// What its page says.
const MARKER: &str = "marker-of-the-page-Kq82vTz61LwXb40";
/// What is sent in the clear, to show that the capture sees and the search finds.
const CLEAR: &str = "sent-in-the-clear-93bd1f";

#[test]
fn relay_and_cable_learn_neither_port_label_page_nor_identity() {
    in_lab(|lab| {
        let trio = Trio::cabled(lab);
        serve::web(&trio.alice, "127.0.0.1:4005", &[("/", Body::Text(MARKER.repeat(1_000)))]);
        let file =
            format!("local = \"127.0.0.1:4005\"\nport = \"{PORT}\"\nidentity = \"alice\"\nsubdomain = \"{LABEL}\"\n");
        trio.alice.service("secret", &file);
        let capture = Capture::start(&trio.relay);
        trio.start();
        let name = format!("{LABEL}.alice");
        trio.bob.tn(&["wait", "--name", &name, "--timeout", "20s"]);
        let request = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | \"$0\" connect \"$1\" --port \"$2\"";
        for _ in 0..3 {
            let said = trio.bob.run(&["sh", "-c", request, env!("CARGO_BIN_EXE_tarnet"), &name, PORT]);
            assert!(said.code == 0 && said.out.contains(MARKER), "{}", said.err);
        }
        trio.bob.inside(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a free port");
            socket.send_to(CLEAR.as_bytes(), "10.77.2.1:9").expect("a cable");
        });
        let (relay, alice) = (memory_of(trio.relay.pid()), memory_of(trio.alice.pid()));
        let text = trio.service_id();
        let packets = capture.end(CLEAR.as_bytes());
        let id = ServiceId::from_str(&text).expect("a service id");
        let secrets: [(&str, &[u8]); 5] = [
            ("the port", PORT.as_bytes()),
            ("the label", LABEL.as_bytes()),
            ("the page", MARKER.as_bytes()),
            ("the identity", &id.0),
            ("the identity as text", text.as_bytes()),
        ];
        // The search finds what is there: names and identity at alice; the capture ended with the clear words.
        for at in [0, 1, 3] {
            assert!(holds(&alice, secrets[at].1), "{} is not even in alice's memory", secrets[at].0);
        }
        for (what, bytes) in secrets {
            assert!(!holds(&relay, bytes), "the relay's memory holds {what}");
            assert!(!holds(&packets, bytes), "the cable carries {what}");
        }
    });
}

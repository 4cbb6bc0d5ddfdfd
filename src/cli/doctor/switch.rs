//! The `hosts` line of `nsswitch.conf(5)`: whether programs ask the name service module, or
//! DNS, or neither.

use std::path::Path;

use tarnet_api::Check;

/// The file.
const FILE: &str = "/etc/nsswitch.conf";

/// The line when there is none. `nsswitch.conf(5)`
const DEFAULT: &str = "dns files";

/// Where the C library finds modules, besides folders named after the machine.
const FOLDERS: [&str; 6] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/tarnet"];

/// The module's file.
const MODULE: &str = "libnss_tarnet.so.2";

/// Looks at it.
pub fn look() -> Check {
    judge(&std::fs::read_to_string(FILE).unwrap_or_default(), installed())
}

/// Whether the module is where the C library looks.
fn installed() -> bool {
    let below = FOLDERS.iter().map(|folder| Path::new(folder).join(format!("{}-linux-gnu", std::env::consts::ARCH)));
    FOLDERS.iter().map(|folder| Path::new(folder).to_owned()).chain(below).any(|folder| folder.join(MODULE).exists())
}

/// What a file means.
fn judge(text: &str, installed: bool) -> Check {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("hosts:"));
    let line = line.map_or(DEFAULT, |line| line.split('#').next().unwrap_or_default()).trim();
    let words = words(line);
    let place = |names: &[&str]| words.iter().position(|word| names.contains(&word.as_str()));
    let others = place(&["dns", "resolve"]);
    let Some(at) = place(&["tarnet"]) else {
        return match others {
            Some(_) => Check::ok("nsswitch", format!("hosts: {line}; everybody sees the names of tun.identity")),
            None => Check::fail(
                "nsswitch",
                format!("hosts: {line}; programs ask no name server"),
                format!("add `dns` to the hosts line of {FILE}, or install libnss-tarnet"),
            ),
        };
    };
    let fail = |what: &str, mend: String| Check::fail("nsswitch", format!("hosts: {line}; {what}"), mend);
    if !installed {
        return fail(&format!("{MODULE} is not installed"), "install libnss-tarnet, or take `tarnet` out".into());
    }
    if others.is_some_and(|other| other < at) {
        return fail("DNS is asked first", format!("put `tarnet` before it in {FILE}"));
    }
    let stops = words.get(at + 1).is_some_and(|action| action.to_ascii_uppercase().contains("TRYAGAIN=RETURN"));
    if !stops {
        let what = format!("hosts: {line}; a name of ours that does not exist is asked for elsewhere");
        return Check::warn("nsswitch", what, format!("write `tarnet [TRYAGAIN=return]` in {FILE}"));
    }
    Check::ok("nsswitch", format!("hosts: {line}; everybody sees their own names"))
}

/// Services and actions, each a word.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut inside = false;
    for part in line.split_whitespace() {
        match words.last_mut().filter(|_| inside) {
            Some(action) => action.push_str(part),
            None => words.push(part.to_owned()),
        }
        inside = if part.contains(']') { false } else { inside || part.contains('[') };
    }
    words
}

#[cfg(test)]
mod tests {
    use tarnet_api::Health;

    use super::*;

    #[test]
    fn each_kind_of_hosts_line_is_judged() {
        for (text, installed, want) in [
            ("passwd: files\nhosts:          files dns\n", false, Health::Ok),
            ("hosts: files resolve [!UNAVAIL=return] dns", false, Health::Ok),
            ("", false, Health::Ok),
            ("hosts: files myhostname # dns\n", false, Health::Fail),
            ("hosts: files tarnet [TRYAGAIN=return] dns", true, Health::Ok),
            ("hosts: files tarnet [ TRYAGAIN=return ] resolve", true, Health::Ok),
            ("hosts: files tarnet [TRYAGAIN=return] dns", false, Health::Fail),
            ("hosts: files tarnet dns", true, Health::Warn),
            ("hosts: files dns tarnet [TRYAGAIN=return]", true, Health::Fail),
        ] {
            assert_eq!(judge(text, installed).state, want, "{text:?}, installed: {installed}");
        }
    }
}

//! Every attack of PROTOCOL.md §9 on links, routes, paths, sessions, names and the DHT, really
//! made. Each test makes its attack twice: it fails; then, with the one [`Defence`] switched off
//! that is said to stop it, it succeeds. Tests without a switch show what no single line of code
//! stops (keys that nobody else has, a bound that is part of a data structure).
//!
//! The files are modules of the rooms' tests, whose networks they use: the tests are called
//! `<room>::…::attacks::<name>`, and `cargo test -p tarnet-core attacks` runs all of them.
//!
//! | row of §9 | file | test |
//! | --- | --- | --- |
//! | a relay answers in the place of the service | path | `a_relay_that_answers_in_the_place_of_the_destination_gets_no_path` |
//! | | session | `a_relay_with_keys_of_its_own_does_not_answer_in_the_place_of_the_service` |
//! | | session | `a_relay_without_the_services_keys_cannot_answer_at_all` |
//! | | session | `nobody_passes_off_the_keys_of_another_as_their_own` |
//! | | link | `a_relay_that_answers_in_the_place_of_a_peer_is_not_taken_for_it` |
//! | | link | `a_stranger_that_dials_in_the_name_of_a_peer_is_not_taken_for_it` |
//! | | link | `another_peer_at_a_pinned_address_gets_no_link_and_learns_nothing` |
//! | forge a name | name | `a_forged_name_leads_nowhere` |
//! | | dht | `a_block_that_its_signer_did_not_sign_is_neither_found_nor_stored` |
//! | roll a name back | name | `a_name_is_not_rolled_back_to_an_earlier_state` |
//! | push a name out with junk | dht | `a_block_is_not_pushed_out_with_junk` |
//! | squat a name before its owner | name | `a_label_that_was_squatted_before_its_owner_published_is_its_owners` |
//! | | dht | `a_key_that_was_squatted_before_its_owner_published_yields_to_the_owner` |
//! | storage nodes list a zone | name | `storage_nodes_cannot_list_labels_they_guess` |
//! | link labels | name | `storage_nodes_cannot_link_the_labels_of_a_zone` |
//! | learn an owner | name | `storage_nodes_cannot_learn_whose_a_block_is` |
//! | replay into another session, link or record | link | `a_frame_that_is_sent_again_is_not_heard_again` |
//! | | link | `a_frame_of_one_link_is_worth_nothing_on_another` |
//! | | session | `a_first_message_that_is_sent_again_later_opens_nothing` |
//! | | session | `a_proof_given_to_one_service_is_worth_nothing_to_another` |
//! | | session | `a_proof_in_the_name_of_another_is_not_taken` |
//! | | session | `a_signature_for_one_purpose_is_worth_nothing_for_another` |
//! | | channel | `a_packet_that_is_sent_again_is_not_looked_into_again` |
//! | | path | `a_set_up_that_is_sent_again_makes_no_second_path` |
//! | | route | `an_advert_that_is_sent_again_brings_no_lost_route_back` |
//! | | route | `an_items_subject_is_its_own_proof` |
//! | | name | `a_name_block_of_one_label_is_worth_nothing_under_another` |
//! | strip the post-quantum half | link | `a_man_in_the_middle_that_strips_the_post_quantum_half_is_noticed` |
//! | | link | `a_peer_once_seen_with_the_post_quantum_half_is_not_accepted_without` |
//! | unsolicited route answers | route | `a_route_answer_from_somebody_who_was_not_asked_is_dropped` |
//! | | route | `an_answer_from_another_neighbour_than_the_datagram_went_to_is_dropped` |
//! | | path | `an_answer_that_nobody_waits_for_opens_nothing` |
//! | | path | `a_neighbour_cannot_close_a_path_of_others` |
//! | | path | `a_neighbour_cannot_put_cells_into_a_path_of_others` |
//! | unsolicited DHT answers | dht | `an_answer_that_was_not_asked_for_is_dropped_whatever_it_guesses` |
//! | advertise what one cannot reach | route | `a_destination_that_is_not_there_cannot_be_claimed_for_it` |
//! | | route | `adverts_signed_by_another_are_not_a_neighbours` |
//! | | route | `nobody_says_where_another_is` |
//! | advertise nearer than true | route | `a_liar_that_advertises_nearer_than_true_draws_no_traffic` |
//! | | route | `a_neighbour_of_a_destination_cannot_claim_to_be_it` |
//! | | route | `an_old_and_shorter_distance_does_not_beat_a_newer_and_longer_one` |
//! | one packet becomes thousands | dht | `one_packet_sent_again_and_again_becomes_one_answer_each` |
//! | | dht | `one_packet_does_not_become_thousands_however_much_it_asks_for` |
//! | | dht | `a_neighbour_that_floods_makes_us_send_no_more_than_its_budget` |
//! | | dht | `a_filter_that_claims_everybody_was_asked_hides_nothing` |
//! | | path | `one_set_up_does_not_become_many_where_routes_run_in_circles` |
//! | | route | `a_neighbour_that_asks_all_the_time_is_not_answered_all_the_time` |
//! | exhaust memory: half-open links | link | `half_open_links_of_one_source_do_not_push_an_honest_one_out` |
//! | | link | `a_flood_of_handshakes_from_one_source_costs_no_public_key_work` |
//! | sessions | session | `sessions_that_nobody_goes_on_with_are_bounded` |
//! | circuits | path | `a_neighbour_that_brings_many_paths_leaves_room_for_those_of_others` |
//! | | path | `a_neighbour_sets_up_so_many_paths_per_second_and_others_are_not_concerned` |
//! | queries | dht | `a_neighbour_that_floods_leaves_room_for_the_queries_of_others` |
//! | queues | link | `a_peer_that_never_reads_does_not_fill_the_memory` |
//! | records | dht | `a_neighbour_that_fills_our_store_pushes_out_its_own` |
//! | routes | route | `invented_destinations_do_not_push_honest_ones_out` |
//! | a slow or dead reader stalls others | link | `a_flow_that_floods_a_slow_link_loses_its_own_cells_only` |
//! | | channel | `a_channel_that_nobody_reads_leaves_the_others_their_credit` |
//! | | channel | `a_slow_reader_stalls_its_own_channel_only` |
//!
//! Rows that come with onion circuits and hidden identities, and are not here: a relay in the
//! place of a later onion hop; finding a hidden identity's machine by first messages, or from
//! its neighbours, introduction points or records; unsolicited introductions; tagging or
//! counting cells across relays. Flows are the TUN's, in the daemon.
//!
//! [`Defence`]: crate::defence::Defence

use std::collections::BTreeSet;

/// Every file of attacks, by the name that the table gives it.
const FILES: [(&str, &str); 7] = [
    ("link", include_str!("link.rs")),
    ("route", include_str!("route.rs")),
    ("path", include_str!("path.rs")),
    ("session", include_str!("session.rs")),
    ("channel", include_str!("channel.rs")),
    ("name", include_str!("name.rs")),
    ("dht", include_str!("dht.rs")),
];

/// The tests of a file: the functions after `#[test]`.
fn tests_of(source: &str) -> impl Iterator<Item = &str> {
    source.split("#[test]\nfn ").skip(1).filter_map(|rest| rest.split('(').next())
}

#[test]
fn the_table_names_every_attack_and_nothing_else() {
    let made: BTreeSet<_> =
        FILES.iter().flat_map(|(file, source)| tests_of(source).map(move |test| (*file, test))).collect();
    let rows = include_str!("mod.rs").lines().filter_map(|line| line.strip_prefix("//! |"));
    let named = rows.filter_map(|row| {
        let mut cells = row.split('|').map(str::trim).skip(1);
        Some((cells.next()?, cells.next()?.strip_prefix('`')?.strip_suffix('`')?))
    });
    assert_eq!(named.collect::<BTreeSet<_>>(), made);
}

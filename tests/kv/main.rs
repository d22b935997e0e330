//! Key-value stores, each a real server that is started for the test: one suite for all of them,
//! with a proxy in between that cuts, stalls and swallows.
//!
//! Servers are fetched where they are missing (`tests/kit/install.sh`); where that is not possible a
//! test says so, and fails if `CI` is set.
#![cfg(all(
    target_os = "linux",
    feature = "toml",
    any(
        feature = "consul",
        feature = "etcd",
        feature = "nats",
        feature = "zookeeper"
    )
))]
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)] // other tests do more with it
#[path = "../support/child.rs"]
mod child;
#[path = "../kit/cluster.rs"]
mod cluster;
#[path = "../kit/proxy.rs"]
mod proxy;
#[path = "../kit/server.rs"]
mod server;

mod chaos;
#[cfg(feature = "consul")]
mod consul;
#[cfg(feature = "consul")]
mod consul_hostile;
#[cfg(feature = "consul")]
mod consul_idle;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "etcd")]
mod etcd_hostile;
#[cfg(feature = "etcd")]
mod etcd_standin;
#[cfg(any(feature = "consul", all(feature = "nats", feature = "watch")))]
#[path = "../support/example.rs"]
mod example;
mod faults;
mod field;
#[cfg(all(feature = "nats", feature = "watch"))]
mod fleet;
#[cfg(any(feature = "nats", feature = "zookeeper"))]
mod memory;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nats")]
#[path = "nats/hostile.rs"]
mod nats_hostile;
#[cfg(feature = "nats")]
#[path = "nats/login.rs"]
mod nats_login;
mod order;
mod random;
#[cfg(feature = "consul")]
mod restore;
mod sources;
mod three;
#[cfg(feature = "zookeeper")]
mod tree;
mod values;
#[cfg(feature = "consul")]
mod watch;
#[cfg(feature = "zookeeper")]
mod zookeeper;
#[cfg(feature = "zookeeper")]
#[path = "zookeeper/acl.rs"]
mod zookeeper_acl;
#[cfg(feature = "zookeeper")]
#[path = "zookeeper/hostile.rs"]
mod zookeeper_hostile;
#[cfg(feature = "zookeeper")]
#[path = "zookeeper/large.rs"]
mod zookeeper_large;
#[cfg(feature = "zookeeper")]
#[path = "zookeeper/standin.rs"]
mod zookeeper_standin;

/// Every test of the suite, for one store.
macro_rules! suite {
    ($store:ty) => {
        suite! { $store:
            sources: where_it_reads_from_is_told_by_health_and_explanations,
            sources: one_source_in_two_programs_tells_each_of_every_change,
            values: what_is_there_and_what_changes_is_seen_and_a_deleted_key_falls_through,
            values: far_too_much_is_refused_and_all_is_there_when_it_is_less,
            values: a_prefix_ends_at_its_separator,
            values: what_one_transaction_changes_is_one_generation_and_one_call,
            values: a_value_that_is_no_text_or_too_large_is_refused_alone,
            values: a_key_may_hold_a_document,
            values: a_document_that_is_absent_at_the_start_is_an_error_unless_it_is_optional,
            values: a_prefix_without_keys_is_a_hint,
            values: a_key_inside_a_document_is_a_clash_and_the_document_stays,
            values: scopes_are_layers_and_a_value_walks_down_as_stronger_ones_go,
            values: ten_thousand_keys_are_loaded_and_one_change_is_one_change,
            faults: a_store_that_is_killed_is_followed_again_however_long_it_was_gone,
            faults: what_changed_in_an_outage_is_told_once_and_nothing_else,
            faults: fifty_changes_in_an_outage_arrive_as_one_value,
            faults: a_store_that_is_wiped_does_not_take_the_values_with_it,
            faults: another_store_in_its_place_is_read_anew,
            faults: a_store_that_is_frozen_is_told_of_and_read_from_memory,
            faults: a_connection_that_swallows_everything_is_given_up,
            faults: a_connection_that_is_reset_or_stalls_is_begun_anew,
            faults: a_store_that_is_absent_at_the_start_is_picked_up,
            faults: the_end_does_not_wait_for_a_read_that_waits,
            faults: fifty_cuts_leak_nothing_and_end_on_the_last_value,
            faults: two_hundred_programs_come_back_without_a_rush,
            order: fifty_cuts_amid_ten_thousand_writes_lose_nothing_and_turn_nothing_back,
            order: five_hundred_random_changes_are_each_seen_at_once,
            order: what_is_not_there_yet_is_seen_as_it_comes,
            order: a_prefix_that_is_wiped_keeps_its_values_here,
            order: a_start_waits_for_a_store_that_is_late_or_goes_on_without_it,
            order: a_start_without_the_store_is_from_what_was_kept,
            order: more_fields_of_a_scope_are_stronger_in_their_order,
            three: of_three_members_any_may_be_killed_and_a_lost_majority_is_told,
            three: a_member_that_is_frozen_or_cut_off_from_the_others_is_left,
        }
    };
    ($store:ty: $($room:ident: $name:ident,)*) => {
        $(#[test] fn $name() { crate::$room::$name::<$store>(); })*
    };
}
pub(crate) use suite;

//! Key-value stores. Each test starts a real server, with a proxy that injects faults. One suite
//! covers all stores.
//!
//! `tests/kit/install.sh` downloads missing servers. If that fails, a test prints that it is
//! skipped, or fails if `CI` is set.
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

#[path = "../kit/cluster.rs"]
mod cluster;
#[path = "../kit/proxy.rs"]
mod proxy;
#[path = "../kit/server.rs"]
mod server;
#[path = "../support/mod.rs"]
mod support;

mod chaos;
#[cfg(feature = "consul")]
mod consul;
#[cfg(feature = "consul")]
mod consul_hostile;
#[cfg(feature = "consul")]
mod consul_idle;
#[cfg(feature = "consul")]
mod consul_restore;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "etcd")]
mod etcd_hostile;
#[cfg(feature = "etcd")]
mod etcd_standin;
mod faults;
#[cfg(all(feature = "nats", feature = "watch"))]
mod fleet_example;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "nats")]
#[path = "nats/hostile.rs"]
mod nats_hostile;
#[cfg(feature = "nats")]
#[path = "nats/login.rs"]
mod nats_login;
mod order;
#[cfg(any(feature = "nats", feature = "zookeeper"))]
mod process_memory;
mod quorum;
mod scenario;
mod sources;
mod values;
#[cfg(feature = "consul")]
mod watch_example;
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
#[cfg(feature = "zookeeper")]
#[path = "zookeeper/tree.rs"]
mod zookeeper_tree;

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// Defines every test of the suite for one store.
macro_rules! suite {
    ($store:ty) => {
        suite! { $store:
            sources: health_and_explanations_name_the_location_of_a_source,
            sources: one_source_in_two_programs_reports_every_change_to_both,
            values: values_and_changes_are_seen_and_a_deleted_key_falls_through,
            values: a_store_over_the_limit_is_rejected_and_read_once_it_is_below,
            values: a_prefix_ends_at_its_separator,
            values: one_transaction_is_one_generation_and_one_call,
            values: a_value_that_is_no_text_or_too_large_is_rejected_alone,
            values: a_key_may_hold_a_document,
            values: a_document_that_is_absent_at_the_start_is_an_error_unless_it_is_optional,
            values: a_prefix_without_keys_is_a_hint,
            values: a_key_inside_a_document_is_a_clash_and_the_document_stays,
            values: scopes_are_layers_and_a_value_walks_down_as_stronger_ones_go,
            values: ten_thousand_keys_are_loaded_and_one_change_is_one_change,
            faults: a_killed_store_is_followed_again_after_any_time,
            faults: changes_during_an_outage_are_reported_once_and_nothing_else,
            faults: fifty_changes_in_an_outage_arrive_as_one_value,
            faults: the_values_of_a_wiped_store_stay,
            faults: a_replaced_store_is_read_from_scratch,
            faults: a_frozen_store_is_reported_and_its_values_stay,
            faults: a_half_open_connection_is_closed,
            faults: a_connection_that_is_reset_or_stalls_is_replaced,
            faults: a_store_that_is_absent_at_the_start_is_used_once_it_is_up,
            faults: shutdown_does_not_wait_for_a_blocking_read,
            faults: fifty_cuts_leak_nothing_and_end_on_the_last_value,
            faults: two_hundred_programs_come_back_without_a_rush,
            order: fifty_cuts_amid_ten_thousand_writes_lose_and_revert_nothing,
            order: five_hundred_random_changes_are_each_seen_at_once,
            order: a_key_that_is_created_later_is_followed,
            order: the_values_of_a_wiped_prefix_stay,
            order: a_start_waits_for_a_late_store_or_continues_without_it,
            order: a_start_without_the_store_uses_the_cache,
            order: scopes_with_more_fields_are_stronger_in_their_order,
            quorum: any_one_of_three_members_may_be_killed_and_a_lost_majority_is_reported,
            quorum: a_member_that_is_frozen_or_cut_off_is_left_for_another,
        }
    };
    ($store:ty: $($room:ident: $name:ident,)*) => {
        $(#[test] fn $name() { crate::$room::$name::<$store>(); })*
    };
}
pub(crate) use suite;

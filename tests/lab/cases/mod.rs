//! The cases, one file a subject.
//!
//! A case is a function that makes the hosts it needs, uses them and asserts; it shares nothing with other cases. When it
//! panics, the report shows where, the command concerned and the journals of its hosts, which are gone afterwards. What
//! must come about by itself is waited for with `until`, never slept for.

mod buckets;
mod by_hand;
mod deaths;
mod etcds;
mod held;
mod lineages;
mod new_clusters;
mod owners;
mod packages;
mod records;
mod rejoining;
mod removals;
mod rendezvous;
mod rendezvous_steps;
mod restore_deaths;
mod restores;
mod runbooks;
mod sandbox;
mod schedules;
mod several_hosts;
mod spellings;
mod unit;
mod waiting;
mod ways_back;

use super::hosts::Lab;
use super::preparation::Suite;

/// What is done on which suites.
pub struct Case {
    pub name: &'static str,
    pub suites: &'static [Suite],
    pub run: fn(&Lab<'_>),
}

const BOTH: &[Suite] = &Suite::ALL;
const TRIXIE: &[Suite] = &[Suite::Trixie];

/// A schedule that is due every two seconds.
const OFTEN: &str = "[schedules.often]\nkind = \"full\"\nevery = \"2s\"\njitter = \"0s\"\n";
/// A schedule that is not due while a case runs.
const SELDOM: &str = "[schedules.seldom]\nkind = \"full\"\nwhen = \"yearly\"\njitter = \"0s\"\ncatch_up = false\n";
/// A retention under which little stays.
const KEEP_TWO: &str = "[destinations.local.retention]\nkeep_last = 2\n";

macro_rules! cases {
    ($($suites:ident $subject:ident::$case:ident)*) => {
        &[$(Case { name: concat!(stringify!($subject), "::", stringify!($case)), suites: $suites, run: $subject::$case }),*]
    };
}

/// All of them. The longest stand first, so that none is waited for at the end.
pub const CASES: &[Case] = cases! {
    TRIXIE rendezvous_steps::a_run_stopped_at_any_step_of_the_rendezvous_is_gone_on_with
    TRIXIE rendezvous_steps::a_host_cut_off_at_any_step_of_the_rendezvous_is_waited_for
    TRIXIE rendezvous_steps::a_host_without_power_at_any_step_of_the_rendezvous_is_waited_for
    TRIXIE rendezvous_steps::a_host_rebooted_at_any_step_of_the_rendezvous_is_waited_for
    TRIXIE buckets::hosts_with_a_bucket_take_one_backup_a_slot_whoever_dies_and_though_it_was_away
    TRIXIE new_clusters::the_same_unit_on_each_host_makes_one_cluster_that_grows_and_lets_no_old_member_in
    TRIXIE new_clusters::hosts_that_lost_everything_and_restored_different_backups_come_together_on_one
    TRIXIE new_clusters::hosts_that_restore_different_backups_do_not_become_one_cluster
    BOTH rendezvous::hosts_killed_stopped_cut_off_and_rebooted_meanwhile_found_one_cluster
    TRIXIE rendezvous::a_backup_restored_twice_lets_no_member_of_the_first_time_in
    TRIXIE rendezvous::a_disk_lost_after_a_restore_costs_no_acknowledged_write
    TRIXIE rendezvous::hosts_that_see_different_stores_found_one_cluster
    TRIXIE buckets::hosts_that_lost_everything_come_back_by_the_recovery_sheet_alone
    BOTH several_hosts::hosts_that_share_a_store_make_one_backup_a_slot_whoever_leads_or_dies
    BOTH deaths::an_agent_killed_in_mid_backup_leaves_nothing_visible_and_no_growing_rubbish
    TRIXIE restore_deaths::a_host_that_loses_its_power_at_any_step_of_a_restore_ends_with_the_old_or_the_new
    TRIXIE restore_deaths::a_host_that_loses_its_power_at_any_step_of_a_rollback_ends_with_the_old_or_the_new
    TRIXIE restore_deaths::a_restore_killed_at_any_step_ends_with_the_old_or_the_new
    TRIXIE records::a_release_killed_at_any_call_is_finished_by_the_next_and_never_taken_back
    TRIXIE removals::what_removes_something_and_is_killed_at_any_call_does_it_when_it_is_run_again
    TRIXIE restore_deaths::a_restore_killed_at_any_removal_ends_with_the_old_or_the_new
    TRIXIE restore_deaths::a_rollback_killed_at_any_removal_ends_with_the_old_or_the_new
    TRIXIE restore_deaths::a_rollback_killed_at_any_step_ends_with_the_old_or_the_new
    BOTH spellings::etcd_is_restored_with_its_settings_however_they_are_spelled
    TRIXIE spellings::a_change_of_the_operators_counts_after_a_restore
    TRIXIE waiting::a_member_that_waits_goes_on_after_a_stop_and_after_a_boot
    TRIXIE waiting::a_run_that_loses_the_bus_is_begun_again_and_one_that_nothing_can_mend_is_not
    TRIXIE runbooks::hosts_that_share_a_store_are_restored_with_systemd_and_without
    TRIXIE runbooks::backups_of_one_host_are_carried_to_the_others
    BOTH runbooks::one_of_three_that_is_lost_comes_back_under_writes
    TRIXIE rejoining::what_is_printed_brings_a_lost_member_back_with_tls_whatever_its_settings_are_in
    BOTH runbooks::two_of_three_that_are_lost_come_back_with_what_the_third_has
    BOTH runbooks::keys_that_were_deleted_are_copied_back_and_a_full_quota_is_freed
    BOTH packages::an_open_restore_keeps_the_program_that_can_end_it
    BOTH new_clusters::a_cluster_in_which_everybody_shows_a_certificate_comes_back
    TRIXIE restores::three_hosts_that_lost_everything_become_one_cluster
    BOTH several_hosts::hosts_with_stores_of_their_own_each_make_their_own_backups
    BOTH deaths::a_host_whose_power_is_cut_in_mid_backup_goes_on_by_itself_when_it_boots
    BOTH schedules::a_scheduled_verification_proves_in_the_unit_what_one_by_hand_would
    BOTH lineages::an_etcd_wiped_and_restarted_empty_displaces_nothing
    BOTH runbooks::the_quick_start_ends_with_an_agent_that_takes_backups
    BOTH runbooks::one_host_is_restored_by_hand_and_with_nobody_at_the_terminal
    BOTH restores::what_was_restored_is_taken_back_restored_again_and_released
    BOTH restores::a_host_goes_back_to_any_moment_that_the_agents_deltas_lead_to
    BOTH restores::a_member_that_lost_its_data_serves_the_backup_again
    BOTH records::a_start_that_systemd_refuses_brings_the_old_data_back
    BOTH records::a_unit_that_systemd_forgets_once_it_is_stopped_is_restored_and_taken_back
    TRIXIE records::data_on_a_disk_that_comes_late_is_waited_for_after_a_boot
    TRIXIE ways_back::an_address_that_something_else_took_meanwhile_brings_the_old_back
    TRIXIE ways_back::an_etcd_too_old_for_the_backup_serves_its_own_data_again
    TRIXIE ways_back::an_etcd_that_does_not_come_up_on_the_new_data_gets_the_old_back
    TRIXIE ways_back::a_disk_that_fills_while_the_new_data_is_made_leaves_etcd_as_it_was
    TRIXIE ways_back::what_cannot_be_restored_touches_nothing
    BOTH restores::the_unit_restores_with_the_key_of_the_host
    TRIXIE restores::a_restore_does_not_wait_for_a_backup_that_hangs_and_the_agent_goes_on
    BOTH restores::settings_in_a_file_data_on_a_mount_and_a_log_of_its_own
    TRIXIE restores::a_log_that_would_leave_with_the_old_data_is_refused_or_seen_as_a_part_of_it
    TRIXIE restores::a_cluster_that_asks_for_a_password_is_seen_to_serve
    BOTH runbooks::a_host_is_restored_without_lifeboat
    BOTH sandbox::what_check_prints_lets_the_agent_in
    BOTH sandbox::the_program_of_a_key_is_run_inside_it
    BOTH sandbox::another_file_system_in_place_of_a_destinations_is_what_the_agent_sees_too
    TRIXIE sandbox::a_destination_that_turns_read_only_is_left_out_loudly_until_it_is_mended
    BOTH unit::an_agent_that_hangs_is_restarted_by_the_watchdog
    TRIXIE etcds::servers_of_the_newest_releases_are_backed_up_and_restored
    BOTH held::an_etcd_that_somebody_starts_meanwhile_stays_down_and_says_why
    TRIXIE held::a_unit_of_another_name_never_starts_on_half_a_restore
    TRIXIE held::a_rollback_that_dies_has_nobody_go_on_with_the_restore
    TRIXIE by_hand::a_restore_takes_paths_as_they_are_and_is_not_ended_by_a_hangup
    TRIXIE by_hand::a_restore_in_a_unit_of_the_operators_leaves_it_too
    TRIXIE ways_back::the_unit_of_a_restore_knows_what_the_agent_remembers
    BOTH by_hand::a_restore_outlives_the_session_that_began_it
    BOTH owners::what_root_does_by_hand_the_agent_goes_on_with
    BOTH owners::whoever_is_in_the_group_sees_how_things_are
    BOTH packages::what_is_removed_comes_back_as_it_was_and_a_purge_leaves_the_backups
    BOTH packages::an_upgrade_lets_the_running_backup_end_and_then_the_new_program_runs
    BOTH packages::the_deb_installs_without_systemd_and_enables_and_starts_nothing
    TRIXIE packages::the_rpm_is_installed_into_a_root_upgraded_and_erased
    BOTH schedules::the_unit_takes_backups_on_schedule_and_rotates_them
    BOTH schedules::the_unit_serves_metrics_to_its_host_and_a_reload_moves_them
    BOTH schedules::a_file_dropped_in_adds_a_schedule_without_a_restart
    BOTH schedules::a_broken_file_changes_nothing_and_shows_in_the_status
    BOTH unit::a_restore_may_do_little_else
    BOTH unit::systemd_finds_it_closed_and_nothing_wrong_with_it
    BOTH unit::the_agent_runs_as_its_own_user_without_capabilities
};

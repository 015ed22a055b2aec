//! The table.

use super::{Kind, property, run};

/// Makes a test of each script and function for each store; `durable` ones for those that outlive their process.
macro_rules! conformance {
    (scripts { $($script:ident $text:literal)* } durable { $($durable:ident $lasting:literal)* }
     functions { $($function:ident $path:path;)* }) => {
        conformance!(@store memory Memory; $($script $text)*; $($function $path;)*);
        conformance!(@store sqlite Sqlite; $($script $text)* $($durable $lasting)*; $($function $path;)*);
        conformance!(@store postgres Postgres; $($script $text)* $($durable $lasting)*; $($function $path;)*);
    };
    (@store $store:ident $kind:ident; $($script:ident $text:literal)*; $($function:ident $path:path;)*) => {
        mod $store {
            use super::*;
            $(#[test]
            fn $script() {
                run(Kind::$kind, $text);
            })*
            $(#[test]
            fn $function() {
                $path(Kind::$kind);
            })*
        }
    };
}

conformance! {
    scripts {
        sequences_are_contiguous_from_1_in_each_channel "
            keep 1:a 1:b 2:a -> 1 2 1
            keep 1:c | 2:b 1:d -> 3 | 2 4
            read 1 -> 1:a 2:b 3:c 4:d; through 4, floors 0 0, head 4
            read 2 -> 1:a 2:b; through 2, floors 0 0, head 2
        "
        an_unknown_channel_is_empty_and_begins_with_1 "
            extent 1 -> floors 0 0, head 0
            read 1 -> through 0, floors 0 0, head 0
            read 1 critical after 7 -> through 0, floors 0 0, head 0
            state 1
            trim 1 history 0 -> floors 0 0, head 0
            keep 1:a -> 1
        "
        an_empty_batch_and_an_empty_request_keep_nothing "
            keep
            keep | 1:a | -> nothing | 1 | nothing
            extent 1 -> floors 0 0, head 1
        "
        the_same_key_is_kept_once "
            keep 1:a 1:a -> 1 1=
            keep 1:b 1:a 1:b -> 2 1= 2=
            keep 1:c | 1:c 1:d | 1:d 1:c -> 3 | 3= 4 | 4= 3=
            keep 2:a -> 1
            read 1 -> 1:a 2:b 3:c 4:d; through 4, floors 0 0, head 4
        "
        a_batch_whose_answer_was_lost_is_answered_the_same_when_it_comes_again "
            keep 1:a 2:a | 1:b! | 2:b@k -> 1 1 | 2 | 2
            keep 1:a 2:a | 1:b! | 2:b@k -> 1= 1= | 2= | 2=
            read 1 -> 1:a 2:b!; through 2, floors 0 0, head 2
            state 2 -> k=2:b
        "
        a_conflict_refuses_its_request_and_no_other "
            keep 1:a -> 1
            keep 1:b 2:b | 1:c 2:c 1:a=2 2:d | 1:d 2:b -> 2 1 | conflict 2 | 3 1=
            keep 1:e 1:e=2 | 1:e=3 -> conflict 1 | 4
            keep 1:e -> conflict 0
            keep 1:f | 1:f=2 1:g | 1:g=4 -> 5 | conflict 0 | 6
            read 1 -> 1:a 2:b 3:d 4:e 5:f 6:g; through 6, floors 0 0, head 6
            read 2 -> 1:b; through 1, floors 0 0, head 1
        "
        nothing_of_a_refused_request_stays "
            keep 1:a@k -> 1
            keep 1:b@k 1:c@n 2:x 1:a=2 -> conflict 3
            state 1 -> k=1:a
            extent 2 -> floors 0 0, head 0
            keep 1:b=7 -> 2
        "
        a_page_ends_where_its_limits_say "
            keep 1:a 1:b! 1:c 1:d! 1:e -> 1 2 3 4 5
            read 1 limit 2 -> 1:a 2:b!; through 2, floors 0 0, head 5
            read 1 after 2 limit 3 -> 3:c 4:d! 5:e; through 5, floors 0 0, head 5
            read 1 after 5 -> through 5, floors 0 0, head 5
            read 1 after 9 -> through 5, floors 0 0, head 5
            read 1 bytes 0 -> 1:a; through 1, floors 0 0, head 5
            read 1 bytes 0 after 4 -> 5:e; through 5, floors 0 0, head 5
            read 1 critical limit 1 -> 2:b!; through 2, floors 0 0, head 5
            read 1 critical limit 2 -> 2:b! 4:d!; through 5, floors 0 0, head 5
            read 1 critical bytes 0 after 2 -> 4:d!; through 5, floors 0 0, head 5
            read 1 limit 0 after 1 -> through 1, floors 0 0, head 5
        "
        history_counts_ordinary_events_and_spares_critical_ones "
            keep 1:a! 1:b 1:c! 1:d 1:e 1:f! -> 1 2 3 4 5 6
            trim 1 history 2 -> floors 2 0, head 6
            read 1 -> 3:c! 4:d 5:e 6:f!; through 6, floors 2 0, head 6
            read 1 critical -> 1:a! 3:c! 6:f!; through 6, floors 2 0, head 6
            trim 1 history 0 -> floors 5 0, head 6
            read 1 -> 6:f!; through 6, floors 5 0, head 6
            trim 1 history 9 -> floors 5 0, head 6
            keep 1:g -> 7
        "
        critical_events_have_a_cap_and_take_what_is_before_them_along "
            keep 1:a! 1:b 1:c! 1:d 1:e! -> 1 2 3 4 5
            trim 1 critical 2 -> floors 1 1, head 5
            read 1 -> 2:b 3:c! 4:d 5:e!; through 5, floors 1 1, head 5
            trim 1 critical 1 -> floors 3 3, head 5
            read 1 -> 4:d 5:e!; through 5, floors 3 3, head 5
            read 1 critical -> 5:e!; through 5, floors 3 3, head 5
            trim 1 critical 0 -> floors 5 5, head 5
            read 1 -> through 5, floors 5 5, head 5
            keep 1:a 1:f -> 1= 6
        "
        critical_events_older_than_their_time_go "
            at 100
            keep 1:a! 1:b -> 1 2
            at 200
            keep 1:c! 1:d -> 3 4
            at 300
            trim 1 ttl 200 -> floors 0 0, head 4
            trim 1 ttl 0 -> floors 0 0, head 4
            trim 1 ttl 150 -> floors 1 1, head 4
            read 1 -> 2:b 3:c! 4:d; through 4, floors 1 1, head 4
            trim 1 ttl 1 -> floors 3 3, head 4
            read 1 -> 4:d; through 4, floors 3 3, head 4
        "
        a_clock_that_went_back_leaves_no_hole "
            at 500
            keep 1:a! -> 1
            at 100
            keep 1:b! 1:c -> 2 3
            at 400
            trim 1 ttl 200 -> floors 2 2, head 3
            read 1 critical -> through 3, floors 2 2, head 3
            read 1 -> 3:c; through 3, floors 2 2, head 3
        "
        ids_of_kept_events_are_never_forgotten "
            at 100
            keep 1:a 1:b! 1:c -> 1 2 3
            at 9000
            trim 1 history 1 ids_ms 10 ids_max 0 -> floors 1 0, head 3
            keep 1:b! 1:c -> 2= 3=
            keep 1:a -> 4
        "
        ids_of_events_that_are_gone_are_remembered_for_a_time_and_up_to_a_number "
            at 100
            keep 1:a 1:b 1:c 1:d -> 1 2 3 4
            at 200
            trim 1 history 1 ids_ms 101 ids_max 9 -> floors 3 0, head 4
            keep 1:a 1:a=2 -> conflict 1
            trim 1 history 1 ids_ms 101 ids_max 3 -> floors 3 0, head 4
            keep 1:b 1:c -> 2= 3=
            keep 1:a=2 -> 5
            at 201
            trim 1 history 1 ids_ms 101 ids_max 9 -> floors 4 0, head 5
            keep 1:a=2 1:b 1:c 1:d -> 5= 6 7 8
        "
        state_holds_the_newest_value_of_each_key "
            keep 1:a@k 1:b@m 1:c@k 1:d@l 2:e@k -> 1 2 3 4 1
            state 1 -> k=3:c l=4:d m=2:b
            state 1 limit 2 -> k=3:c l=4:d more
            state 1 after l limit 2 -> m=2:b
            state 1 bytes 0 -> k=3:c more
            state 1 bytes 0 after l -> m=2:b
            keep 1:f@l- 1:g@x- -> 5 6
            state 1 -> k=3:c m=2:b
            keep 1:h@l -> 7
            state 1 -> k=3:c l=7:h m=2:b
            keep 1:a@k 1:f@l- -> 1= 5=
            state 1 -> k=3:c l=7:h m=2:b
            keep 1:i@z 1:j@z- 1:k@z 1:l@y 1:m@y- -> 8 9 10 11 12
            state 1 after m -> z=10:k
        "
        state_outlives_history_and_has_a_cap "
            keep 1:a@k 1:b@m 1:c@l 1:d@k -> 1 2 3 4
            trim 1 history 0 -> floors 4 0, head 4
            state 1 -> k=4:d l=3:c m=2:b
            trim 1 state 2 -> floors 4 0, head 4
            state 1 -> k=4:d l=3:c
            trim 1 state 0 -> floors 4 0, head 4
            state 1
        "
        extents_come_in_the_order_asked "
            keep 1:a 2:a 2:b -> 1 1 2
            extents 2 9 1 2 -> 2 0 1 2
            extents
        "
    }
    durable {
        what_was_kept_is_there_after_a_restart "
            keep 1:a 1:b!@k 1:c -> 1 2 3
            trim 1 history 1 ids_max 9 ids_ms 9 -> floors 1 0, head 3
            reopen
            read 1 -> 2:b! 3:c; through 3, floors 1 0, head 3
            state 1 -> k=2:b
            keep 1:c 1:a 1:b=2!@k -> conflict 2
            keep 1:c 1:a 1:d -> 3= 1= 4
            reopen
            extent 1 -> floors 1 0, head 4
        "
        a_damaged_event_is_named_and_passed_over "
            keep 1:a 1:b 1:c! 1:d@k -> 1 2 3 4
            damage 1 2
            damage 1 3
            read 1 -> 1:a 4:d; corrupt 2 3; through 4, floors 0 0, head 4
            read 1 limit 2 -> 1:a; corrupt 2; through 2, floors 0 0, head 4
            read 1 critical -> corrupt 3; through 4, floors 0 0, head 4
            keep 1:b 1:e -> 2= 5
            trim 1 history 1 critical 0 -> floors 4 3, head 5
            read 1 -> 5:e; through 5, floors 4 3, head 5
        "
        a_damaged_value_is_named_and_those_behind_it_still_come "
            keep 1:a@a 1:b@b 1:c@c 1:d@d -> 1 2 3 4
            damage_value 1 2
            state 1 -> a=1:a c=3:c d=4:d corrupt:2
            state 1 limit 1 -> a=1:a more
            state 1 limit 2 -> a=1:a corrupt:2 more behind b
            state 1 limit 1 after a -> corrupt:2 more behind b
            state 1 limit 3 -> a=1:a c=3:c corrupt:2 more
            state 1 limit 2 after b -> c=3:c d=4:d
        "
    }
    functions {
        every_field_comes_back super::super::every_field_comes_back;
        a_payload_of_a_mebibyte_comes_back super::super::a_payload_of_a_mebibyte_comes_back;
        commits_at_the_same_time_make_one_order super::super::commits_at_the_same_time_make_one_order;
        random_scripts_are_answered_as_the_model_answers_them property::hold;
    }
}

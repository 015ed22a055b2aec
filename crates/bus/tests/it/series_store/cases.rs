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
        what_was_kept_comes_back_by_channel_and_tier "
            keep cpu:0-60=aa cpu;host=x:0-60=b cpu@1s:0-60=c b/cpu:0-60=d
            read -> cpu:0-60=aa cpu;host=x:0-60=b
            read tier 1s -> cpu@1s:0-60=c
            read tier 1h
            read of b -> b/cpu:0-60=d
            read of c
        "
        an_empty_store_and_no_chunks_are_nothing_special "
            read
            trim 1m before 100 max 10 -> 0
            keep
            read
        "
        a_chunk_takes_the_place_of_the_one_with_its_key "
            keep cpu:0-60=a
            keep cpu:0-120=abc mem:0-60=x cpu:60-120=y
            read -> cpu:0-120=abc mem:0-60=x cpu:60-120=y
            keep cpu:0-30=z
            read from 30 -> mem:0-60=x cpu:60-120=y
            read -> cpu:0-30=z mem:0-60=x cpu:60-120=y
        "
        of_chunks_with_one_key_the_last_is_kept "
            keep cpu:0-60=a mem:0-60=b cpu:0-90=c
            read -> cpu:0-90=c mem:0-60=b
        "
        chunks_of_two_writers_stand_beside_each_other "
            keep cpu#2:0-60=a cpu#18446744073709551615:0-60=b
            keep cpu#2:0-60=c
            read -> cpu#18446744073709551615:0-60=b cpu#2:0-60=c
        "
        a_range_wants_what_reaches_into_it "
            keep cpu:0-60=a cpu:60-120=b cpu:120-180=c
            read from 60 to 120 -> cpu:60-120=b
            read from 59 to 121 -> cpu:0-60=a cpu:60-120=b cpu:120-180=c
            read from 70 to 80 -> cpu:60-120=b
            read from 180
            read to 0
            read from 0 to 1 -> cpu:0-60=a
            read from 100 to 100 -> cpu:60-120=b
            read from 100 to 60
        "
        a_long_chunk_is_found_by_its_end "
            keep cpu:0-1000=a cpu:990-1000=b mem:-50-10=c
            read from 999 to 1000 -> cpu:0-1000=a cpu:990-1000=b
            read from 999 name cpu -> cpu:0-1000=a cpu:990-1000=b
            keep cpu:0-10=d
            read from 999 -> cpu:990-1000=b
            keep mem:-5000-1001=e
            read from 1000 -> mem:-5000-1001=e
        "
        only_series_that_pass_come "
            keep cpu;host=x:0-60=a cpu;host=y:0-60=b mem;host=x:0-60=c cpu:0-60=d
            read tag host=x -> cpu;host=x:0-60=a mem;host=x:0-60=c
            read tag host=x name cpu -> cpu;host=x:0-60=a
            read name cpu -> cpu:0-60=d cpu;host=x:0-60=a cpu;host=y:0-60=b
            read tag host=z
        "
        one_series_among_many_is_found "
            keep a:0-60=a b:0-60=b c:0-60=c d:0-60=d e:0-60=e f:0-60=f g:0-60=g h:0-60=h i:0-60=i
            keep e:60-120=x e#2:60-120=y e@1s:60-120=z b/e:60-120=v
            read name e -> e:0-60=e e#2:60-120=y e:60-120=x
            read name e from 60 -> e#2:60-120=y e:60-120=x
            read name e to 60 -> e:0-60=e
            read name e bytes 0 -> e:0-60=e more
            read name e bytes 2 -> e:0-60=e e#2:60-120=y e:60-120=x
        "
        chunks_come_by_their_start_until_there_are_enough_bytes "
            keep cpu:120-180=cccc
            keep cpu:60-120=bbb mem:0-30=a
            read -> mem:0-30=a cpu:60-120=bbb cpu:120-180=cccc
            read bytes 0 -> mem:0-30=a more
            read bytes 1 -> mem:0-30=a cpu:60-120=bbb more
            read bytes 3 -> mem:0-30=a cpu:60-120=bbb more
            read bytes 4 -> mem:0-30=a cpu:60-120=bbb cpu:120-180=cccc
            read bytes 0 from 100 -> cpu:60-120=bbb more
            read bytes 0 from 130 -> cpu:120-180=cccc
            read bytes 0 name cpu -> cpu:60-120=bbb more
        "
        what_ended_is_trimmed_and_nothing_else "
            keep cpu:0-60=a cpu:60-120=b mem:30-90=c mem:0-91=d cpu@1s:0-60=e b/cpu:0-60=f
            trim 1m before 90 max 10 -> 3
            read -> mem:0-91=d cpu:60-120=b
            read of b
            read tier 1s -> cpu@1s:0-60=e
            trim 1m before 90 max 10 -> 0
            trim 1m before 9223372036854775807 max 10 -> 2
            read
        "
        trimming_goes_in_bites "
            keep cpu:0-60=a cpu:60-120=b cpu:120-180=c mem:0-300=d
            trim 1m before 200 max 0 -> 0
            trim 1m before 200 max 2 -> 2
            trim 1m before 200 max 2 -> 1
            trim 1m before 200 max 2 -> 0
            read -> mem:0-300=d
        "
        series_beyond_the_most_are_left_out "
            series_max 2
            keep cpu:0-60=a mem:0-60=b disk:0-60=c disk:60-120=d cpu:60-120=e -> left out 2
            keep b/cpu:0-60=a cpu;host=x:0-60=f mem:60-120=g -> left out 2
            trim 1m before 60 max 10 -> 2
            keep disk:0-60=x -> left out 1
        "
        a_series_without_chunks_makes_room_and_may_come_back "
            series_max 1
            keep cpu:0-60=a cpu@1s:0-60=b
            keep mem:0-60=x mem@1s:0-60=x -> left out 2
            trim 1m before 60 max 10 -> 1
            keep mem:0-60=x -> left out 1
            trim 1s before 60 max 10 -> 1
            keep mem:0-60=c cpu:0-60=x -> left out 1
            read -> mem:0-60=c
            trim 1m before 60 max 10 -> 1
            keep b/cpu:0-60=d cpu:0-60=x -> left out 1
            trim 1m before 60 max 10 -> 1
            keep cpu:0-60=e
            read -> cpu:0-60=e
            read of b
        "
    }
    durable {
        what_was_kept_is_there_after_a_restart "
            keep cpu:0-1000=a cpu;host=x#2:60-120=b b/mem@1h:0-60=c
            reopen
            read -> cpu:0-1000=a cpu;host=x#2:60-120=b
            read from 999 -> cpu:0-1000=a
            keep cpu:0-2000=ad
            read of b tier 1h -> b/mem@1h:0-60=c
            reopen
            trim 1m before 120 max 10 -> 1
            read -> cpu:0-2000=ad
        "
        a_damaged_chunk_is_counted_and_passed_over "
            keep cpu:0-60=aaaa cpu:60-120=b cpu:120-180=c mem:120-180=d
            damage 0
            read -> cpu:60-120=b cpu:120-180=c mem:120-180=d corrupt:1
            read bytes 0 -> cpu:60-120=b corrupt:1 more
            read bytes 2 to 150 -> cpu:60-120=b cpu:120-180=c mem:120-180=d corrupt:1
            damage 120
            read from 60 -> cpu:60-120=b corrupt:2
            read to 60 -> corrupt:1
            keep cpu:0-60=new
            read to 60 -> cpu:0-60=new
            trim 1m before 180 max 10 -> 4
        "
        a_chunk_at_another_time_or_of_another_writer_is_damaged "
            keep a:0-60=a b:10-60=b c:20-60=c d:30-60=d
            set chunks SET end_ms = 61 WHERE start_ms = 0
            set chunks SET writer = 2 WHERE start_ms = 10
            set chunks SET start_ms = 21 WHERE start_ms = 20
            set series SET kind = 'counter' WHERE name = 'd'
            read -> corrupt:4
        "
        chunks_of_a_series_that_cannot_be_read_are_counted "
            keep cpu:0-60=a cpu:60-120=b mem:0-60=c
            damage_series cpu
            read -> mem:0-60=c corrupt:2
            read to 60 name mem -> mem:0-60=c corrupt:1
            keep cpu:120-180=d
            trim 1m before 180 max 10 -> 4
            keep cpu:0-60=a
            read -> cpu:0-60=a
        "
    }
    functions {
        every_field_comes_back super::super::every_field_comes_back;
        many_chunks_come_whole_and_in_order super::super::many_chunks_come_whole_and_in_order;
        keeping_reading_and_trimming_go_on_at_the_same_time
            super::super::keeping_reading_and_trimming_go_on_at_the_same_time;
        random_operations_do_what_they_do_to_a_list property::hold;
    }
}

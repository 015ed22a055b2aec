//! The hand-off from publishers' threads to a shard's: nothing is left lying while the shard sleeps.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use pulsewire_hub::{Command, Inbox, Order};

#[test]
fn a_sleeping_shard_is_woken_for_everything_that_many_threads_push() {
    const THREADS: usize = 4;
    const EACH: usize = 5_000;
    let (wake, woken) = sync_channel::<()>(1);
    let wake = Box::new(move || {
        // A full channel means that it will wake anyway.
        let _ = wake.try_send(());
    });
    let inbox: Arc<Inbox<usize>> = Arc::new(Inbox::new(1_000, wake));
    let pushers: Vec<_> = (0..THREADS)
        .map(|_| {
            let inbox = inbox.clone();
            thread::spawn(move || {
                for _ in 0..EACH {
                    inbox.push(Command::Order(Order::List(Box::new(|_| ()))));
                }
            })
        })
        .collect();
    let (mut taken, mut count) = (Vec::new(), 0);
    while count < THREADS * EACH {
        inbox.take(&mut taken);
        count += taken.len();
        taken.clear();
        // Lost wake-ups would hang here for ever.
        if count < THREADS * EACH && inbox.sleep() {
            woken.recv().unwrap();
            inbox.awake();
        }
    }
    for pusher in pushers {
        pusher.join().unwrap();
    }
    inbox.take(&mut taken);
    assert_eq!((count, taken.len()), (THREADS * EACH, 0));
}

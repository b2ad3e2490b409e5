//! What a good pair sees: messages in order, closes with their reasons, silence, urgency.

mod common;

use std::time::{Duration, Instant};

use common::{closed, next, next_message, pair};
use ftemu_transport::{Class, Closed, Event, SendError, Settings};

#[tokio::test]
async fn messages_of_a_class_arrive_whole_and_in_order() {
    let (_listener, (here, _here_events), (_there, mut there_events)) = pair(&Settings::default()).await;
    assert!(here.tethered());
    let lengths = [0, 1, 4, 1000, 70_000, Class::Log.limit()];
    for length in lengths {
        here.send(Class::Log, vec![length as u8; length]).unwrap();
    }
    for length in lengths {
        let (class, bytes) = next_message(&mut there_events).await;
        assert_eq!((class, bytes.len()), (Class::Log, length));
        assert!(bytes.iter().all(|byte| *byte == length as u8));
    }
    assert!(here.traffic().sent_bytes > Class::Log.limit() as u64);
}

#[tokio::test]
async fn a_heartbeat_carries_what_it_is_given() {
    let (_listener, (here, _), (_there, mut there_events)) = pair(&Settings::default()).await;
    here.send(Class::Heartbeat, vec![1, 2, 3]).unwrap();
    assert_eq!(next_message(&mut there_events).await, (Class::Heartbeat, vec![1, 2, 3]));
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_not_sent() {
    let (_listener, (here, _), _there) = pair(&Settings::default()).await;
    let error = here.send(Class::Control, vec![0; Class::Control.limit() + 1]);
    assert!(matches!(error, Err(SendError::TooLong { class: Class::Control, .. })));
}

#[tokio::test]
async fn a_close_tells_its_reason() {
    let (_listener, (here, mut here_events), (there, mut there_events)) = pair(&Settings::default()).await;
    there.close(7, "the owner said so");
    let expected = Closed::ByPeer { code: 7, reason: "the owner said so".into() };
    assert_eq!(closed(&mut here_events).await, expected);
    assert_eq!(closed(&mut there_events).await, Closed::ByUs);
    assert_eq!(here.closed(), Some(&expected));
}

#[tokio::test]
async fn a_finished_link_has_delivered_everything() {
    let (_listener, (here, _here_events), (_there, mut there_events)) = pair(&Settings::default()).await;
    for turn in 0..20 {
        here.send(Class::Log, vec![turn; 100_000]).unwrap();
    }
    here.send(Class::Control, b"goodbye".to_vec()).unwrap();
    here.finish(common::PATIENCE, 3, "done").await;
    let mut messages = 0;
    let reason = loop {
        match next(&mut there_events).await {
            Event::Message(_) => messages += 1,
            Event::Closed(reason) => break reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((messages, reason), (21, Closed::ByPeer { code: 3, reason: "done".into() }));
}

#[tokio::test]
async fn a_quiet_link_lasts() {
    let settings = Settings { idle_limit: Duration::from_millis(500), ..Settings::default() };
    let (_listener, (_here, mut here_events), (_there, _there_events)) = pair(&settings).await;
    let quiet = tokio::time::timeout(settings.idle_limit * 3, here_events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

/// Bulk fills the link; a log message overtakes what waits in front of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_does_not_delay_the_log() {
    let (_listener, (here, _here_events), (_there, mut there_events)) = pair(&Settings::default()).await;
    let bulk_count = 48;
    for _ in 0..bulk_count {
        here.send(Class::Bulk, vec![1; Class::Bulk.limit()]).unwrap();
    }
    let (class, _) = next_message(&mut there_events).await;
    assert_eq!(class, Class::Bulk);
    let sent = Instant::now();
    here.send(Class::Log, b"urgent".to_vec()).unwrap();
    let mut bulk_before = 1;
    while next_message(&mut there_events).await.0 == Class::Bulk {
        bulk_before += 1;
    }
    println!("the log message took {:?} and let {bulk_before} of {bulk_count} bulk messages by", sent.elapsed());
    assert!(bulk_before < bulk_count / 2, "{bulk_before} bulk messages came first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_message_makes_its_round_trip_fast() {
    let (_listener, (here, mut here_events), (there, mut there_events)) = pair(&Settings::default()).await;
    let echo = tokio::spawn(async move {
        while let Some(Event::Message(message)) = there_events.recv().await {
            there.send(Class::Control, message.bytes).unwrap();
        }
    });
    let mut trips = Vec::new();
    for turn in 0..200_u32 {
        let sent = Instant::now();
        here.send(Class::Log, turn.to_le_bytes().to_vec()).unwrap();
        assert_eq!(next_message(&mut here_events).await.1, turn.to_le_bytes());
        trips.push(sent.elapsed());
    }
    here.close(0, "done");
    echo.await.unwrap();
    trips.sort();
    println!("round trips: median {:?}, 99 % {:?}", trips[trips.len() / 2], trips[trips.len() * 99 / 100]);
    assert!(trips[trips.len() / 2] < Duration::from_millis(10));
}

#[tokio::test]
async fn dropping_the_link_ends_it() {
    let (_listener, (here, here_events), (_there, mut there_events)) = pair(&Settings::default()).await;
    drop((here, here_events));
    assert!(matches!(closed(&mut there_events).await, Closed::ByPeer { code: 0, .. }));
}

#[tokio::test]
async fn news_ends_with_the_close() {
    let (_listener, (here, mut here_events), _there) = pair(&Settings::default()).await;
    here.close(0, "done");
    assert!(matches!(next(&mut here_events).await, Event::Closed(Closed::ByUs)));
}

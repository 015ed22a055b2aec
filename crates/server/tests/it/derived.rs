//! Numbers derived from events, from HTTP to a WebSocket.

use pulsewire::auth::Role;
use serde_json::{Value, json};

use crate::harness::{Server, Socket, until};

fn subscribed(server: &Server, channels: &[&str]) -> Socket {
    let mut socket =
        server.open("/ws/metrics", &format!("Authorization: Bearer {}\r\n", server.token("ada", Role::User)));
    assert_eq!(socket.json()["type"], "welcome");
    socket.say(&json!({ "type": "subscribe", "data": { "channels": channels } }));
    assert_eq!(socket.json()["type"], "subscribed");
    socket
}

/// Waits for a document of a channel that a condition holds for.
fn wait(socket: &mut Socket, channel: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut found = Value::Null;
    until(channel, || {
        found = socket.json();
        found["channel"] == channel && holds(&found)
    });
    found
}

#[test]
fn executions_calls_and_tasks_are_counted_from_events_and_published() {
    let server = Server::start("[derive]\ninterval = \"100ms\"");
    let event = |event_type: &str, key: &str, data: Value| json!({ "channel": "run:1", "type": event_type, "key": key, "data": data });
    server.publish(&event("task:started", "a", json!({})));
    server.publish(&event("task:completed", "a", json!({ "duration_ms": 100 })));
    server.publish(&event("task:failed", "b", json!({ "duration_ms": 300 })));
    server.publish(&event("task:started", "c", json!({})));
    let mut named = event("task:completed", "d", json!({ "duration_ms": 200 }));
    named["id"] = json!("once");
    for duplicate in [false, true] {
        assert_eq!(server.publish(&named)["duplicate"] == true, duplicate);
    }
    // What nobody keeps counts, too.
    server.publish(&json!({ "channel": "upstream:1", "type": "agent:call", "data": { "duration_ms": 40 } }));
    server.publish(&json!({ "channel": "upstream:1", "type": "agent:call", "data": { "error": "no model", "latency_ms": 60 } }));

    let mut socket = subscribed(&server, &["workflow.metrics", "agent.metrics", "distributed.metrics"]);
    let workflow = wait(&mut socket, "workflow.metrics", |said| said["executions"]["total"] == 3);
    assert_eq!(workflow["executions"], json!({ "total": 3, "successful": 2, "failed": 1 }));
    assert_eq!(workflow["success_rate"], 66.667);
    assert_eq!(workflow["duration"], json!({ "avg": 200.0, "p95": 300.0 }));
    let agent = wait(&mut socket, "agent.metrics", |said| said["calls"]["total"] == 2);
    assert_eq!(agent["calls"], json!({ "total": 2, "successful": 1, "failed": 1 }));
    assert_eq!(agent["latency"], json!({ "avg": 50.0, "p95": 60.0 }));
    assert_eq!(agent["errors"], json!({ "total": 0 }));
    let distributed = wait(&mut socket, "distributed.metrics", |said| said["tasks"]["completed"] == 2);
    assert_eq!(distributed["nodes"], json!({ "active": 1, "total": 1 }));
    assert_eq!(distributed["tasks"], json!({ "pending": 0, "running": 1, "completed": 2 }));
    assert!(distributed["throughput"].as_f64().unwrap() > 0.0);

    // A client's own events count like those of applications.
    server.publish(&event("task:created", "e", json!({})));
    wait(&mut socket, "distributed.metrics", |said| said["tasks"]["pending"] == 1);
    assert!(server.metric("pulsewire_samples_total{source=\"derived\"}") >= 15.0);
    assert_eq!(server.metric_sum("pulsewire_samples_refused_total"), 0.0);
}

#[test]
fn only_nodes_are_said_of_a_server_without_events_and_forgotten_tasks_are_counted() {
    let server = Server::start("[derive]\ninterval = \"100ms\"\ntasks_max = 1");
    let mut socket = subscribed(&server, &["workflow.metrics", "agent.metrics", "distributed.metrics"]);
    for _ in 0..3 {
        let mut said = socket.json();
        said.as_object_mut().unwrap().remove("timestamp");
        assert_eq!(said, json!({ "channel": "distributed.metrics", "nodes": { "active": 1, "total": 1 } }));
    }
    for key in ["a", "b", "c"] {
        server.publish(&json!({ "channel": "run:1", "type": "task:started", "key": key, "data": null }));
    }
    server.wait_metric("pulsewire_derived_tasks_forgotten_total", 2.0);
}

#[test]
fn types_that_mean_something_can_be_set() {
    let server = Server::start("[derive]\ninterval = \"100ms\"\ncompleted = [\"job.done\"]\nfailed = []");
    for event_type in ["task:completed", "task:failed", "job.done"] {
        server.publish(&json!({ "channel": "run:1", "type": event_type, "data": null }));
    }
    let mut socket = subscribed(&server, &["workflow.metrics"]);
    let said = wait(&mut socket, "workflow.metrics", |_| true);
    assert_eq!(said["executions"], json!({ "total": 1, "successful": 1, "failed": 0 }));
}

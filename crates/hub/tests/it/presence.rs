//! Who is told of whom, in virtual time: what the protocol page promises with its spans of milliseconds and minutes.

use pulsewire_hub::{HubSettings, Limits, ReplicaOptions, Target};
use pulsewire_protocol::{ChannelName, CloseCode, SessionId};

use crate::sim::client::{Client, Reading};
use crate::sim::net::Say;
use crate::sim::world::{Connecting, Plan, World};

const JOIN: &str = r#"{"type":"subscribe","channels":[{"channel":"run:1","presence":true}]}"#;
const WATCH: &str = r#"{"type":"subscribe","channels":[{"channel":"run:1","presence":"watch"}]}"#;
const LEAVE: &str = r#"{"type":"unsubscribe","channels":["run:1"]}"#;

/// A world with one watcher, whose ears are the test's.
struct Scene {
    world: World,
    watcher: usize,
}

impl Scene {
    fn new(shards: usize) -> Self {
        Self::on("n1", shards)
    }

    fn on(name: &'static str, shards: usize) -> Self {
        let settings = HubSettings { limits: Limits::default(), ..HubSettings::default() };
        let plan = Plan { shards, name, ..Plan::calm(settings) };
        let mut scene = Self { world: World::new(1, plan), watcher: 0 };
        scene.watcher = scene.connect("eve", None);
        scene.say(scene.watcher, WATCH);
        assert_eq!(scene.heard(), "presence run:1:");
        scene
    }

    fn connect(&mut self, user: &str, session: Option<&str>) -> usize {
        let number = self.world.clients.len();
        let mut client = Client::new(number, user);
        client.heard = Some(Vec::new());
        self.world.clients.push(client);
        let session = session.map(|session| SessionId::parse(session).expect("a session id"));
        let with = Connecting { token: Some(user.into()), session, ..Connecting::default() };
        self.world.connect(number, with).expect("admission has no bounds here");
        self.world.settle();
        number
    }

    /// A member of `run:1`.
    fn join(&mut self, user: &str) -> usize {
        let client = self.connect(user, None);
        self.say(client, JOIN);
        client
    }

    fn say(&mut self, client: usize, json: &str) {
        self.world.say(client, Say::Text(json.into()));
        self.world.settle();
    }

    /// Lets time pass, in steps shorter than anything is told.
    fn wait(&mut self, ms: u64) {
        self.world.run(ms, 50);
    }

    /// What the watcher has heard of presence since it was last asked.
    fn heard(&mut self) -> String {
        self.heard_by(self.watcher)
    }

    fn heard_by(&mut self, client: usize) -> String {
        let heard = self.world.clients[client].heard.as_mut().expect("it keeps what it hears");
        let heard = std::mem::take(heard);
        heard.into_iter().filter(|line| line.starts_with("presence")).collect::<Vec<_>>().join(" | ")
    }

    fn session(&self, client: usize) -> String {
        self.world.clients[client].session.clone().expect("it was welcomed")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.world.audit();
            assert_eq!(self.world.collect(), Vec::<String>::new());
        }
    }
}

#[test]
fn who_comes_and_goes_is_told_at_most_every_tenth_of_a_second() {
    let mut scene = Scene::new(2);
    scene.wait(100);
    let ada = scene.join("ada");
    assert_eq!(scene.heard(), "presence run:1 +ada");
    let bob = scene.join("bob");
    scene.join("ada");
    scene.say(bob, r#"{"type":"presence","channel":"run:1","cursor":7}"#);
    scene.wait(50);
    assert_eq!(scene.heard(), "", "it was told less than 100 ms ago");
    scene.wait(50);
    assert_eq!(scene.heard(), "presence run:1 +bob ada=2");
    scene.say(ada, LEAVE);
    scene.say(bob, r#"{"type":"presence","channel":"run:1","cursor":null}"#);
    scene.wait(100);
    assert_eq!(scene.heard(), "presence run:1 ada=1 bob@null");
}

#[test]
fn a_member_whose_connection_breaks_has_left_after_the_grace_and_not_before() {
    let mut scene = Scene::new(2);
    let ada = scene.join("ada");
    scene.wait(100);
    assert_eq!(scene.heard(), "presence run:1 +ada");
    scene.world.reset(ada);
    scene.wait(4_900);
    assert_eq!(scene.heard(), "");
    scene.wait(200);
    assert_eq!(scene.heard(), "presence run:1 -ada");
}

#[test]
fn a_member_who_is_back_within_the_grace_is_no_news_whether_its_session_is_resumed_or_new() {
    let mut scene = Scene::new(2);
    for resumes in [true, false] {
        let user = if resumes { "ada" } else { "bob" };
        let client = scene.join(user);
        scene.wait(100);
        assert_eq!(scene.heard(), format!("presence run:1 +{user}"));
        let session = scene.session(client);
        scene.world.reset(client);
        scene.wait(4_000);
        let client = scene.connect(user, resumes.then_some(session.as_str()));
        if !resumes {
            scene.say(client, JOIN);
        }
        scene.wait(10_000);
        assert_eq!(scene.heard(), "");
        assert!(scene.heard_by(client).starts_with("presence run:1: ada"), "it is told who is there");
    }
}

/// Row R9.
#[test]
fn a_thousand_members_who_reconnect_within_the_grace_are_no_news_to_anybody() {
    const MEMBERS: usize = 1_000;
    let mut scene = Scene::new(2);
    let [join, watch] = [JOIN, WATCH].map(|wish| wish.replace("run:1", "hall:1"));
    let watcher = scene.connect("zoe", None);
    scene.say(watcher, &watch);
    let user = |number: usize| format!("u{number}");
    let members: Vec<usize> = (0..MEMBERS).map(|number| scene.connect(&user(number), None)).collect();
    members.iter().for_each(|member| scene.world.say(*member, Say::Text(join.clone())));
    scene.wait(1_000);
    let channel = ChannelName::parse("hall:1").expect("a name");
    let count = |scene: &Scene| scene.world.hub.presence.snapshot(&channel).members.len();
    assert_eq!(count(&scene), MEMBERS);
    assert_eq!(scene.heard_by(watcher).matches('+').count(), MEMBERS, "they were told of once each");
    let sessions: Vec<String> = members.iter().map(|member| scene.session(*member)).collect();
    members.iter().for_each(|member| scene.world.reset(*member));
    scene.wait(100);
    let mut back = Vec::new();
    for (number, session) in sessions.iter().enumerate() {
        let resumes = number % 2 == 0;
        back.push(scene.connect(&user(number), resumes.then_some(session.as_str())));
        if !resumes {
            scene.world.say(back[number], Say::Text(join.clone()));
        }
        if number % 250 == 249 {
            scene.wait(1_000);
        }
    }
    // Longer than the grace, and shorter than the server's own look at who is silent.
    scene.wait(10_000);
    assert_eq!(scene.heard_by(watcher), "", "nobody came or went");
    assert_eq!(count(&scene), MEMBERS);
    for member in back {
        let heard = scene.heard_by(member);
        assert!(!heard.contains(['+', '-']), "{heard}");
    }
}

/// Lets time pass on nodes that tell each other who is there.
fn wait_together(scenes: &mut [Scene; 2], ms: u64) {
    for _ in 0..ms / 50 {
        scenes.iter_mut().for_each(|scene| scene.wait(50));
        for from in 0..2 {
            let [said_by, other] = [&scenes[from].world, &scenes[1 - from].world];
            for said in said_by.hub.presence.outgoing(said_by.now, true) {
                let heard = other.hub.presence.hear(said_by.plan.name, &said.body, other.now);
                heard.expect("a node takes what a node says");
            }
        }
    }
}

#[test]
fn members_of_two_nodes_are_told_of_each_other_and_may_move_from_one_to_the_other() {
    let mut scenes = ["n1", "n2"].map(|name| Scene::on(name, 2));
    scenes.iter().for_each(|scene| scene.world.hub.presence.replicate(ReplicaOptions::default()));
    wait_together(&mut scenes, 2_000);
    let ada = scenes[0].join("ada");
    let bob = scenes[1].join("bob");
    wait_together(&mut scenes, 1_000);
    assert_eq!(scenes[0].heard(), "presence run:1 +ada | presence run:1 +bob");
    assert_eq!(scenes[1].heard(), "presence run:1 +bob | presence run:1 +ada");
    scenes[1].say(bob, r#"{"type":"presence","channel":"run:1","cursor":7}"#);
    wait_together(&mut scenes, 1_000);
    assert_eq!(scenes[0].heard(), "presence run:1 bob@7");
    assert_eq!(scenes[1].heard(), "presence run:1 bob@7");
    scenes[0].world.reset(ada);
    wait_together(&mut scenes, 4_000);
    let ada = scenes[1].join("ada");
    wait_together(&mut scenes, 10_000);
    scenes
        .iter_mut()
        .for_each(|scene| assert_eq!(scene.heard(), "", "ada moved, and was there all the time"));
    scenes[1].say(ada, LEAVE);
    wait_together(&mut scenes, 1_000);
    scenes.iter_mut().for_each(|scene| assert_eq!(scene.heard(), "presence run:1 -ada"));
}

#[test]
fn a_close_frame_an_operator_and_a_narrower_token_end_membership_at_once() {
    let mut scene = Scene::new(1);
    let ends: [fn(&mut Scene, usize); 3] = [
        |scene, ada| scene.world.say(ada, Say::Close(Some(1000))),
        |scene, _| {
            let target = Target::User("ada".into());
            scene.world.hub.close(&target, CloseCode::TryAgainLater, || Box::new(|_| ()));
        },
        |scene, ada| scene.say(ada, r#"{"type":"refresh","token":"ada;only=project:*"}"#),
    ];
    for end in ends {
        let ada = scene.join("ada");
        scene.wait(100);
        assert_eq!(scene.heard(), "presence run:1 +ada");
        end(&mut scene, ada);
        scene.wait(200);
        assert_eq!(scene.heard(), "presence run:1 -ada");
    }
}

#[test]
fn a_session_that_is_sent_away_while_it_waits_to_be_resumed_has_left() {
    let mut scene = Scene::new(1);
    let ada = scene.join("ada");
    scene.wait(100);
    scene.world.reset(ada);
    scene.wait(100);
    scene.heard();
    scene.world.hub.close(&Target::User("ada".into()), CloseCode::Revoked, || Box::new(|_| ()));
    scene.wait(100);
    assert_eq!(scene.heard(), "presence run:1 -ada");
}

/// Half open: the heartbeat would find out after 40 s.
#[test]
fn a_member_whose_client_vanished_has_left_when_its_time_is_up() {
    let mut scene = Scene::new(1);
    let ada = scene.join("ada");
    let bob = scene.join("bob");
    scene.wait(200);
    scene.heard();
    scene.world.abandon(ada);
    scene.wait(14_000);
    assert_eq!(scene.heard(), "");
    scene.wait(3_000);
    assert_eq!(scene.heard(), "presence run:1 -ada");
    scene.wait(60_000);
    assert_eq!(scene.heard(), "", "bob answers what he is asked");
    assert!(scene.world.clients[bob].wire.is_some());
}

#[test]
fn a_watcher_who_stalls_is_told_who_is_there_when_it_reads_again() {
    let settings = HubSettings {
        limits: Limits { outbox_bytes_max: 4_096, slow_after_ms: 600_000, ..Limits::default() },
        ..HubSettings::default()
    };
    let mut scene =
        Scene { world: World::new(1, Plan { room: (1_000, 1_000), ..Plan::calm(settings) }), watcher: 0 };
    scene.watcher = scene.connect("eve", None);
    scene.say(scene.watcher, WATCH);
    let ada = scene.join("ada");
    scene.wait(200);
    scene.heard();
    scene.world.clients[scene.watcher].reading = Reading::Nothing;
    for round in 0..40 {
        let cursor = format!(r#"{{"round":{round},"pad":"{}"}}"#, "x".repeat(200));
        scene.say(ada, &format!(r#"{{"type":"presence","channel":"run:1","cursor":{cursor}}}"#));
        scene.wait(100);
    }
    let queued = scene.world.list().iter().map(|info| info.queued_bytes).max();
    assert!(queued <= Some(4_096), "{queued:?} bytes wait");
    scene.say(ada, r#"{"type":"presence","channel":"run:1","cursor":"last"}"#);
    scene.wait(1_000);
    scene.world.clients[scene.watcher].reading = Reading::All;
    scene.wait(1_000);
    let heard = scene.heard();
    assert!(heard.ends_with("presence run:1: ada"), "{heard}");
    assert!(heard.split(" | ").count() < 20, "{heard}");
    let known = &scene.world.clients[scene.watcher].presence["run:1"].members["ada"];
    assert_eq!(known.1, "last");
}

#[test]
fn a_question_is_answered_even_if_its_subscription_ends_before() {
    let mut scene = Scene::new(1);
    let ada = scene.join("ada");
    scene.say(ada, r#"{"type":"presence","id":1,"channel":"run:1"}"#);
    scene.world.clients[ada].asked.insert(1, crate::sim::client::Asked::Anything);
    scene.say(ada, LEAVE);
    let heard = scene.world.clients[ada].heard.take().expect("it keeps what it hears");
    assert_eq!(heard[heard.len() - 2..], ["error not_subscribed", "unsubscribed run:1"]);
    scene.wait(200);
    scene.heard();
}

#[test]
fn members_beyond_the_limit_are_refused_until_somebody_leaves() {
    let mut scene = Scene::new(2);
    let members: Vec<usize> = (0..8).map(|number| scene.join(&format!("u{number}"))).collect();
    let late = scene.join("late");
    let heard = scene.world.clients[late].heard.clone().expect("it keeps what it hears");
    assert_eq!(heard.last().map(String::as_str), Some("error limit_exceeded"));
    scene.say(members[3], LEAVE);
    scene.say(late, JOIN);
    scene.wait(200);
    let channel = ChannelName::parse("run:1").expect("a name");
    let users: Vec<String> =
        scene.world.hub.presence.snapshot(&channel).members.iter().map(|it| it.user.to_string()).collect();
    assert_eq!(users, ["late", "u0", "u1", "u2", "u4", "u5", "u6", "u7"]);
}

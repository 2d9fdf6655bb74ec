//! Screens of a profile of known content, on a terminal that only exists in memory.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::{Ask, Key, View};
use crate::profile::builder::ProfileBuilder;
use crate::profile::evidence::Reading;
use crate::profile::{BlockRow, FrameKind, Process, Profile, ResidentKind, ResidentRow, TimelinePoint};

const MIB: u64 = 1 << 20;

/// A master and two workers, one of which grows; a name that would clear the screen.
fn server(second: u64) -> Profile {
    let mut builder = ProfileBuilder::new();
    let frame = |builder: &mut ProfileBuilder, kind, function: &str, file: &str, line| {
        builder.frame(kind, function, file, line, line)
    };
    let serve =
        frame(&mut builder, FrameKind::Package, "handle", "/usr/lib/python3/site-packages/gunicorn/sync.py", 135);
    let create = frame(&mut builder, FrameKind::Own, "create_order", "/srv/app.py", 32);
    let evil = frame(&mut builder, FrameKind::Own, "\u{1b}[2Jcleared", "/srv/evil.py", 7);
    let [grows, loads] = [builder.stack(&[serve, create]), builder.stack(&[serve, evil])];
    let mut profile = builder.into_profile();
    profile.trace.duration_ms = second * 1000;
    let process = |pid, parent, command: &str, rss_end| Process {
        pid,
        parent,
        command: command.to_owned(),
        rss_start: 30 * MIB,
        rss_end,
        ..Process::default()
    };
    profile.processes = vec![
        process(4242, None, "gunicorn: master [app]", 30 * MIB),
        process(4250, Some(0), "gunicorn: worker [app]", (40 + second) * MIB),
        process(4251, Some(0), "gunicorn: worker [app]", 31 * MIB),
    ];
    for at in 0..=second {
        for (process, rss) in [(0, 30), (1, 40 + at), (2, 31)] {
            let allocated = at * 12 * MIB * u64::from(process);
            profile.timeline.push(TimelinePoint { process, at_ms: at * 1000, rss: rss * MIB, live: 0, allocated });
        }
        let received = at * 64 * 1024;
        profile.evidence.readings.push(Reading { process: 1, at_ms: at * 1000, received, ..Reading::default() });
    }
    let block = |process, stack, space, objects| BlockRow {
        process,
        stack,
        alloc_objects: 9 * objects,
        alloc_space: 9 * space,
        inuse_objects: objects,
        inuse_space: space,
        ..BlockRow::default()
    };
    profile.blocks = vec![block(1, grows, second * MIB, second * 800), block(2, loads, 3 * MIB, 40)];
    profile.resident = vec![ResidentRow {
        process: 1,
        stack: grows,
        allocated_by: Some(grows),
        kind: ResidentKind::CHeap,
        inuse_space: second * MIB,
    }];
    profile.quality.target_cost_ms = 31;
    profile.quality.target_cpu_ms = 1000;
    profile
}

fn screen(view: &View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view.draw(frame)).unwrap();
    let text = terminal.backend().to_string();
    assert!(!text.contains('\u{1b}'), "an escape code of the target is on the screen");
    text
}

fn view() -> View {
    let mut view = View::new("pid 4242 gunicorn: master [app]".to_owned(), false, true);
    view.take(&server(39));
    view.take(&server(40));
    view
}

#[test]
fn a_tree_on_80_by_24() {
    insta::assert_snapshot!("tui_80_by_24", screen(&view(), 80, 24));
}

#[test]
fn a_tree_on_a_wide_screen() {
    insta::assert_snapshot!("tui_wide", screen(&view(), 140, 20));
}

#[test]
fn into_a_process_and_a_line_of_code_and_back() {
    let mut view = view();
    for key in [Key::Tab, Key::Down, Key::Enter] {
        assert_eq!(view.key(key), Ask::Nothing);
        view.look_at(&server(40));
    }
    assert_eq!(view.shown.places.len(), 1, "one process's own lines only");
    view.key(Key::Enter);
    view.look_at(&server(40));
    insta::assert_snapshot!("tui_paths_to_a_line", screen(&view, 80, 24));
    view.key(Key::Back);
    view.key(Key::Back);
    view.look_at(&server(40));
    assert_eq!(view.shown.places.len(), 2);
}

#[test]
fn another_ledger_and_the_help() {
    let mut view = view();
    view.key(Key::Letter('l'));
    view.look_at(&server(40));
    view.key(Key::Letter('?'));
    insta::assert_snapshot!("tui_help", screen(&view, 80, 24));
    view.key(Key::Enter);
    insta::assert_snapshot!("tui_resident", screen(&view, 80, 24));
}

#[test]
fn paused_means_still() {
    let mut view = view();
    view.key(Key::Letter('p'));
    view.take(&server(60));
    assert!(screen(&view, 80, 24).contains("00:00:40"));
    view.key(Key::Letter('p'));
    view.take(&server(60));
    assert!(screen(&view, 80, 24).contains("00:01:00"));
}

#[test]
fn sorted_by_growth_the_grower_is_first_and_the_selection_stays_with_its_process() {
    let mut view = view();
    view.key(Key::Tab);
    view.key(Key::End);
    view.look_at(&server(40));
    let chosen = view.shown.workers[view.worker].pid;
    view.key(Key::Letter('s'));
    view.key(Key::Letter('s'));
    view.look_at(&server(41));
    assert_eq!(view.shown.workers[0].pid, 4250);
    assert_eq!(view.shown.workers[view.worker].pid, chosen);
}

#[test]
fn no_screen_is_too_small() {
    let mut view = view();
    for (width, height) in [(1, 1), (10, 3), (40, 5), (300, 100)] {
        screen(&view, width, height);
    }
    view.key(Key::Letter('?'));
    screen(&view, 12, 4);
    View::new(String::new(), true, false).take(&Profile::default());
}

#[test]
fn keys_ask_for_the_end_and_for_a_file() {
    assert_eq!(view().key(Key::Letter('q')), Ask::Quit);
    assert_eq!(view().key(Key::Interrupt), Ask::Quit);
    assert_eq!(view().key(Key::Letter('w')), Ask::Save);
}

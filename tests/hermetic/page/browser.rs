//! The page in a real browser: live, by keyboard, for screen readers, in light and dark, on small and large machines.

use std::sync::Arc;

use serde_json::{Value, json};
use trimtab::reconcile::node_view::NodeView;

use super::{change, eventful, start};
use crate::support::chromium::{Chromium, Tab};
use crate::support::machines::{HOSTILE, LARGE, SMALL, busy};
use crate::support::server::ready_report;

/// Contrast of text on what is behind it, WCAG 2.2, "contrast ratio": the smallest on the map, and where it is.
const LEAST_CONTRAST: &str = "(() => {
  const light = (color) => {
    const parts = color.match(/[\\d.]+/g).slice(0, 3).map((part) => Number(part) / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const pairs = [...document.querySelectorAll('#map .cpu text, #map .label')].map((text) => {
    const behind = text.parentNode.querySelector('rect') || text.closest('.numa').querySelector('rect');
    let fill = getComputedStyle(behind).fill;
    if (text.closest('.memory')) fill = getComputedStyle(text.closest('.numa').querySelector('.frame')).fill;
    if (fill.startsWith('url')) fill = getComputedStyle(document.querySelector('#map .hatch-ground')).fill;
    if (fill === 'none') fill = getComputedStyle(document.body).backgroundColor;
    return [ratio(light(getComputedStyle(text).fill), light(fill)), text.textContent];
  });
  return pairs.reduce((least, pair) => (pair[0] < least[0] ? pair : least), [99, '']);
})()";

fn small() -> NodeView {
    let mut view = busy(SMALL, &[(HOSTILE[0], 1), (HOSTILE[1], 1)]);
    view.machine.offline_cpus = vec![8, 9];
    view.pods[0].containers[0].mispinned = Some(HOSTILE[3].into());
    view.pods[1].containers[0].mispinned = Some(HOSTILE[2].into());
    view
}

fn large() -> NodeView {
    let names: Vec<String> = (0..48).map(|number| format!("worker-{number}")).collect();
    let holders: Vec<(&str, u32)> =
        names.iter().zip([1, 2, 3, 8, 4].iter().cycle()).map(|(n, c)| (n.as_str(), *c)).collect();
    let mut view = busy(LARGE, &holders);
    view.pods[7].containers[0].mispinned = Some("it may run on 0-511".into());
    view
}

#[tokio::test]
async fn the_page_works_in_a_browser() {
    let Some(mut browser) = Chromium::start().await else {
        assert!(std::env::var_os("CI").is_none(), "install chromium: under CI this test must run");
        eprintln!("skipped: no chromium on this machine");
        return;
    };
    let (server, address) = start(eventful(HOSTILE[2]), small()).await;
    server.history.note(change(HOSTILE[1]));
    let tab = browser.open(&format!("http://{address}/")).await;
    browser.until(&tab, "document.getElementById('live').dataset.state === 'live'").await;
    stays_text(&mut browser, &tab).await;
    looks_well(&mut browser, &tab, "8").await;
    answers_the_keyboard(&mut browser, &tab).await;
    speaks(&mut browser, &tab).await;

    browser.value(&tab, "window.kept = true").await;
    server.view.send_replace(Arc::new(busy(SMALL, &[("newcomer", 3)])));
    browser.until(&tab, "document.querySelector('#machine table').textContent.includes('newcomer')").await;
    assert_eq!(browser.value(&tab, "window.kept").await, json!(true), "changes come without loading the page anew");
    assert_eq!(browser.value(&tab, "document.activeElement.id").await, json!("map"), "the focus stays");

    server.report.send_replace(Arc::new(ready_report()));
    server.view.send_replace(Arc::new(large()));
    browser.until(&tab, "document.querySelectorAll('#map .cpu').length === 512").await;
    looks_well(&mut browser, &tab, "512").await;
    assert_eq!(browser.complaints(), Vec::<String>::new());

    browser.call(Some(&tab), "Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    browser.call(Some(&tab), "Page.reload", json!({})).await;
    browser.until(&tab, "document.readyState === 'complete' && window.kept === undefined").await;
    assert_eq!(browser.value(&tab, "document.querySelectorAll('#map .cpu').length").await, json!(512));
    assert_eq!(browser.value(&tab, "document.querySelectorAll('button').length").await, json!(0), "no dead buttons");
    let live = browser.value(&tab, "document.getElementById('live').textContent").await;
    assert!(live.as_str().unwrap().starts_with("As of "), "{live}");
    for part in ["#changes tbody tr", "#subsystems tbody tr", "#map .mispinned", "#drift"] {
        let found = browser.value(&tab, &format!("document.querySelectorAll('{part}').length > 0")).await;
        assert_eq!(found, json!(true), "{part} is there without scripts too");
    }
    assert_eq!(browser.complaints(), Vec::<String>::new());

    let image = browser.open(&format!("http://{address}/topology.svg")).await;
    assert_eq!(
        browser.value(&image, "document.querySelectorAll('.cpu').length > 512").await,
        json!(true),
        "and its legend"
    );
    browser.photograph(&image, "image-512").await;
    server.shut_down().await;
}

async fn stays_text(browser: &mut Chromium, tab: &Tab) {
    assert_eq!(browser.value(tab, "typeof window.owned").await, json!("undefined"));
    assert_eq!(browser.value(tab, "document.querySelectorAll('script').length").await, json!(1));
    assert_eq!(browser.value(tab, "document.querySelectorAll('img, #main #main, h1 + h1').length").await, json!(0));
    let pods = "[...document.querySelectorAll('tr[data-h] td:nth-child(3)')].map((cell) => cell.textContent)";
    assert_eq!(browser.value(tab, pods).await, json!([HOSTILE[0], HOSTILE[1]]));
    let changed = "document.querySelector('#changes tbody th').textContent";
    assert_eq!(browser.value(tab, changed).await, json!(HOSTILE[1]));
    let marked = "[...document.querySelectorAll('#map .mispinned .m')].map((mark) => mark.textContent).join()";
    assert_eq!(browser.value(tab, marked).await, json!("A!,A!"));
    let title = browser.value(tab, "document.title").await;
    assert_eq!(title, json!(format!("{} · Trimtab", HOSTILE[2])));
}

async fn looks_well(browser: &mut Chromium, tab: &Tab, name: &str) {
    for scheme in ["light", "dark"] {
        browser.prefer(tab, scheme).await;
        let least = browser.value(tab, LEAST_CONTRAST).await;
        assert!(least[0].as_f64().unwrap() >= 4.5, "{scheme}, {name} CPUs: contrast of {least}");
        let wide = browser.value(tab, "document.documentElement.scrollWidth - innerWidth").await;
        assert!(wide.as_i64().unwrap() <= 0, "{name} CPUs stick out by {wide} pixels");
        browser.photograph(tab, &format!("{scheme}-{name}")).await;
    }
    browser.resize(tab, 400, 800).await;
    let wide = browser.value(tab, "document.documentElement.scrollWidth - innerWidth").await;
    assert!(wide.as_i64().unwrap() <= 0, "on a narrow screen {name} CPUs stick out by {wide} pixels");
    browser.photograph(tab, &format!("narrow-{name}")).await;
    browser.resize(tab, 1280, 900).await;
}

async fn answers_the_keyboard(browser: &mut Chromium, tab: &Tab) {
    let readout = "document.getElementById('readout').textContent";
    browser.value(tab, "document.querySelector('button.key').focus()").await;
    browser.value(tab, "document.activeElement.click()").await;
    assert_eq!(browser.value(tab, "document.querySelectorAll('#map .pick .cpu.on').length").await, json!(2));
    assert_eq!(browser.value(tab, "document.activeElement.getAttribute('aria-pressed')").await, json!("true"));
    browser.value(tab, "document.getElementById('map').focus()").await;
    for (key, expected) in [
        ("ArrowRight", "CPU 0: reserved"),
        ("ArrowRight", "CPU 1: held by data/<script>"),
        ("ArrowDown", "CPU 5: held by data/<script>"),
        ("ArrowLeft", "CPU 4: reserved"),
        ("ArrowUp", "CPU 0: reserved"),
        ("End", "CPU 9: offline"),
    ] {
        browser.press(tab, key).await;
        let said = browser.value(tab, readout).await;
        assert!(said.as_str().unwrap().starts_with(expected), "{key}: {said}");
    }
    browser.press(tab, "Escape").await;
    assert_eq!(browser.value(tab, readout).await, json!(""));
    assert_eq!(browser.value(tab, "document.querySelectorAll('#map .pick').length").await, json!(0));
}

/// What a screen reader is told.
async fn speaks(browser: &mut Chromium, tab: &Tab) {
    let tree = browser.call(Some(tab), "Accessibility.getFullAXTree", json!({})).await;
    let nodes: Vec<&Value> = tree["nodes"].as_array().unwrap().iter().filter(|node| node["ignored"] == false).collect();
    let named = |role: &str| -> Vec<&str> {
        let of_role = nodes.iter().filter(|node| node["role"]["value"] == role);
        of_role.map(|node| node["name"]["value"].as_str().unwrap_or_default()).collect()
    };
    let headings = named("heading");
    for heading in ["Needs a look", "Machine", "Subsystems", "Drift now", "Last changes"] {
        assert!(headings.contains(&heading), "{headings:?}");
    }
    let images: Vec<&str> = [named("image"), named("img")].concat();
    assert_eq!(images.len(), 1, "the map is one image, its cells are not read one by one: {images:?}");
    assert!(images[0].starts_with("Map of the CPUs. 1 socket, 1 NUMA node, 4 cores, 8 CPUs: "), "{images:?}");
    assert!(named("table").contains(&"Who holds CPUs") && named("table").contains(&"Memory by NUMA node"));
    for role in ["button", "link", "region"] {
        assert!(
            !named(role).is_empty() && named(role).iter().all(|name| !name.is_empty()),
            "{role}: {:?}",
            named(role)
        );
    }
}

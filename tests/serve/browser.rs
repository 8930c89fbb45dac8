//! The page, in a browser, with films that were drawn: by keyboard and by dropping, on a desk and on a phone.

use std::fs;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::answers::pixels;
use super::common::browser::{Chromium, INSTALL};
use super::common::command::empty;
use super::common::ledger;
use super::{Server, film, films};

const NAME: &str = "browser";

/// A browser at a server's page; notes where there is none.
fn opened(name: &str) -> Option<(Server, Chromium)> {
    let Some(mut browser) = Chromium::start(name) else {
        ledger::skipped(NAME, "the page was not tried in a browser: there is no chromium", INSTALL);
        return None;
    };
    let server = Server::usual(name);
    browser.on_screen(1280, 900, false, "light");
    browser.open(&format!("http://{}/", server.address));
    browser.until("document.getElementById('model').textContent.includes('64 × 64')");
    Some((server, browser))
}

fn text_of(browser: &mut Chromium, id: &str) -> String {
    browser.text(&format!("document.getElementById('{id}').textContent"))
}

const SHOWN: &str = "!document.getElementById('result').hidden && document.getElementById('busy').hidden";

#[test]
fn a_film_and_a_phrase_by_keyboard() {
    let Some((server, mut browser)) = opened("keyboard") else { return };
    browser.press("Tab");
    let mut reached = vec![browser.text("document.activeElement.id")];
    browser.press("Tab");
    reached.push(browser.text("document.activeElement.id"));
    assert_eq!(reached, ["film", "phrase"]);
    browser.press("Enter");
    browser.until("document.getElementById('error').textContent.startsWith('Choose a radiograph first')");
    // Markup in a phrase stays text.
    let phrase = "effusion <img src=x onerror=alert(1)>";
    browser.type_in(phrase);
    browser.choose("#film", &films()[0]);
    browser.until(SHOWN);
    let captions = browser.value("[...document.querySelectorAll('#tiles figcaption')].map((it) => it.textContent)");
    let like = format!("Like “{phrase}”");
    assert_eq!(
        captions,
        serde_json::json!(["Film, as the model sees it", like, "Predicted mask", "Pseudo mask, from attention"])
    );
    assert_eq!(browser.value("document.querySelectorAll('img, #result script').length"), 0);
    let query = "?text=effusion+%3Cimg+src%3Dx+onerror%3Dalert(1)%3E";
    let answer = server.explain(query, &film()).well();
    let similarity = format!("{:.3}", answer["numbers"]["similarity"].as_f64().unwrap());
    assert!(text_of(&mut browser, "similarity").contains(&similarity), "{similarity}");
    assert_eq!(
        browser.value("document.querySelectorAll('#findings tr').length"),
        answer["findings"].as_array().unwrap().len()
    );
    let first = browser.text("document.querySelector('#reports li').firstChild.data");
    assert_eq!(first, answer["reports"][0]["text"].as_str().unwrap());
    assert_eq!(
        browser.value("document.querySelectorAll('#stages figure').length"),
        answer["stages"].as_array().unwrap().len() - 1
    );
    pictures_are_drawn(&mut browser);
    // The overlay goes, and comes back, by the arrow keys.
    browser.value("document.getElementById('opacity').focus()");
    browser.press("Home");
    browser.until("[...document.querySelectorAll('canvas.overlay')].every((it) => it.style.opacity === '0')");
    browser.press("ArrowRight");
    browser.until("document.getElementById('opacity-value').textContent === '1 %'");
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
    let own = format!("http://{}/", server.address);
    let foreign: Vec<String> = browser
        .requests()
        .into_iter()
        .filter(|address| !address.starts_with(&own) && address != "about:blank")
        .collect();
    assert_eq!(foreign, [""; 0], "the page asks elsewhere");
    ledger::ran(NAME, "the page: a film by keyboard");
    server.stop();
}

/// What lies on the canvases is the film, and something over it.
fn pictures_are_drawn(browser: &mut Chromium) {
    let data = "(at, channel) => [...document.querySelectorAll('#tiles canvas')[at].getContext('2d') \
                .getImageData(0, 0, 64, 64).data].filter((_, place) => place % 4 === channel)";
    let gray: Vec<u8> = serde_json::from_value(browser.value(&format!("({data})(0, 0)"))).unwrap();
    assert_eq!(gray, pixels(&films()[0]));
    // Each tile is the film; all but the first have an overlay.
    let overlays =
        browser.value("[...document.querySelectorAll('#tiles canvas')].map((it) => it.className === 'overlay')");
    assert_eq!(overlays, serde_json::json!([false, false, true, false, true, false, true]));
    let heat: Vec<u8> = serde_json::from_value(browser.value(&format!("({data})(2, 0)"))).unwrap();
    assert!(heat.iter().max() > Some(&240) && heat.iter().min() < Some(&60), "from violet to yellow");
    let shown = browser.value("document.querySelector('#tiles canvas').getBoundingClientRect().width > 150");
    assert_eq!(shown, true);
}

#[test]
fn a_film_is_dropped_and_errors_are_told() {
    let Some((server, mut browser)) = opened("dropped") else { return };
    let drop = |bytes: &[u8]| {
        format!(
            "(() => {{ const bytes = Uint8Array.from(atob('{}'), (it) => it.charCodeAt(0)); \
             const transfer = new DataTransfer(); transfer.items.add(new File([bytes], 'secret-name.png')); \
             document.body.dispatchEvent(new DragEvent('drop', {{ dataTransfer: transfer, bubbles: true, cancelable: true }})); }})()",
            BASE64_STANDARD.encode(bytes)
        )
    };
    browser.value(&drop(&film()));
    browser.until(SHOWN);
    assert_eq!(browser.value("document.querySelectorAll('#tiles figure').length"), 3, "no phrase, no map of it");
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
    browser.value(&drop(b"no film at all"));
    browser.until("document.getElementById('error').textContent.includes('neither PNG, JPEG nor DICOM')");
    assert_eq!(browser.value("document.getElementById('error').hidden"), false);
    browser.value(&drop(b""));
    browser.until("document.getElementById('error').textContent.includes('is empty')");
    assert!(!browser.text("document.body.innerText").contains("secret-name"));
    // The server is gone.
    server.stop();
    browser.value(&drop(&film()));
    browser.until("document.getElementById('error').textContent.includes('does not answer')");
    ledger::ran(NAME, "the page: a film dropped, garbage dropped, the server gone");
}

/// The checks above would notice: what the policy forbids does not run, and is complained about.
#[test]
fn what_the_policy_forbids_is_noticed() {
    let Some((server, mut browser)) = opened("policy") else { return };
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
    browser.value("try { document.body.setAttribute('onclick', 'window.ran = true') } catch {} document.body.click()");
    browser.value("fetch('http://127.0.0.1:9/').catch(() => 0)");
    assert_eq!(browser.value("window.ran === undefined"), true);
    let said = browser.complaints();
    for word in ["TrustedScript", "Content Security Policy"] {
        assert!(said.iter().any(|it| it.to_string().contains(word)), "{word} is not in {said:?}");
    }
    browser.value("console.error('told')");
    assert_eq!(browser.complaints().len(), said.len() + 1);
    server.stop();
}

#[test]
fn the_page_fits_a_desk_and_a_phone_in_light_and_dark() {
    let Some((server, mut browser)) = opened("screens") else { return };
    browser.value("document.getElementById('phrase').value = 'right pleural effusion'");
    browser.choose("#film", &films()[0]);
    browser.until(SHOWN);
    browser.value("document.querySelector('details').open = true");
    let folder = empty("screens");
    let mut seen = Vec::new();
    for (name, width, height, mobile, scheme) in [
        ("desk-light", 1280, 900, false, "light"),
        ("desk-dark", 1280, 900, false, "dark"),
        ("phone-light", 390, 844, true, "light"),
        ("phone-dark", 390, 844, true, "dark"),
    ] {
        browser.on_screen(width, height, mobile, scheme);
        let wide = browser.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
        assert_eq!(wide, 0, "{name} has to be scrolled sideways");
        let picture = browser.picture();
        fs::write(folder.join(format!("{name}.png")), &picture).unwrap();
        let picture = image::load_from_memory(&picture).unwrap().to_luma8();
        assert!(picture.width() == width && picture.height() > height, "{name}: {:?}", picture.dimensions());
        seen.push(picture.get_pixel(3, 3).0[0]);
    }
    assert!(seen[0] > 200 && seen[1] < 60 && seen[2] > 200 && seen[3] < 60, "grounds are {seen:?}");
    assert_eq!(browser.complaints(), Vec::<serde_json::Value>::new());
    ledger::ran(NAME, format!("the page on four screens: {}", folder.display()));
    server.stop();
}

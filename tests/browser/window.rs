//! A browser of a test's own: Debian's Chromium, driven by its chromedriver.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::common::capabilities::chromium::ChromiumLikeCapabilities as _;
use thirtyfour::{By, DesiredCapabilities, Key, LoggingPrefsLogLevel, WebDriver, WebElement};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::harness::wait::{eventually, expect_that, stretched, within};

/// How long one request to chromedriver may take; starting the browser is one.
const REQUEST_LIMIT: Duration = Duration::from_secs(120);
/// How long the end of a test waits for the browser's end.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How many chromedrivers are started, at most, until one finds a port.
const CHROMEDRIVERS: usize = 10;
/// What the browser is told: no sandbox, because tests may run as root; a pipe, so that it ends with chromedriver.
const ARGUMENTS: [&str; 8] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--remote-debugging-pipe",
];

/// A window on one page. It is closed, and the browser ended, when this is dropped.
pub(crate) struct Browser {
    driver: Mutex<Option<WebDriver>>,
    handle: WebDriver,
    _chromedriver: Child,
    _profile: TempDir,
}

impl Browser {
    /// A window of 1440 by 900.
    ///
    /// # Panics
    /// Where chromedriver or Chromium cannot be started.
    pub(crate) async fn open() -> Self {
        Self::sized(1440, 900).await
    }

    /// A window of `width` by `height`.
    ///
    /// # Panics
    /// Where chromedriver or Chromium cannot be started.
    pub(crate) async fn sized(width: u32, height: u32) -> Self {
        let profile = TempDir::new().expect("the temporary directory can be written");
        let (chromedriver, port) = chromedriver().await;
        let mut wanted = DesiredCapabilities::chrome();
        let data = format!("--user-data-dir={}", profile.path().display());
        for argument in ARGUMENTS.into_iter().chain([data.as_str()]) {
            wanted.add_arg(argument).expect("an argument is text");
        }
        wanted
            .set_binary(&program("chromium"))
            .expect("a path is text");
        // Narrower than a window can be: the page's size is set, not the window's.
        let metrics = json!({"deviceMetrics": {"width": width, "height": height, "pixelRatio": 1.0, "touch": false}});
        wanted
            .add_experimental_option("mobileEmulation", metrics)
            .expect("JSON is an option");
        wanted
            .set_browser_log_level(LoggingPrefsLogLevel::All)
            .expect("JSON is a preference");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(stretched(REQUEST_LIMIT))
            // The last request, which ends the browser, is sent from another runtime.
            .pool_max_idle_per_host(0)
            .build()
            .expect("an HTTP client can be made");
        let server = format!("http://127.0.0.1:{port}");
        let driver = WebDriver::builder(server, wanted)
            .client(client)
            .connect()
            .await;
        let driver = driver.unwrap_or_else(|error| panic!("Chromium does not start: {error}"));
        Self {
            handle: driver.clone(),
            driver: Mutex::new(Some(driver)),
            _chromedriver: chromedriver,
            _profile: profile,
        }
    }

    /// Opens `url`.
    pub(crate) async fn visit(&self, url: &str) {
        // A change of the machine's network (a container comes or goes) fails what is just being loaded.
        eventually(format_args!("{url} opens"), async || {
            let opened = self.handle.goto(url).await;
            opened.map_err(|error| error.to_string())
        })
        .await;
    }

    /// Opens `url` in another tab, which is the one that is looked at from now on.
    pub(crate) async fn visit_in_new_tab(&self, url: &str) {
        let tab = self.handle.new_tab().await.expect("a tab can be opened");
        let switched = self.handle.switch_to_window(tab).await;
        switched.expect("the tab is there");
        self.visit(url).await;
    }

    /// What `script` returns.
    pub(crate) async fn run(&self, script: &str, arguments: Vec<Value>) -> Value {
        let answer = within("a script", self.handle.execute(script, arguments)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{script}: {error}"));
        answer.json().clone()
    }

    /// The texts of all that `css` selects, as they are in the page.
    pub(crate) async fn texts(&self, css: &str) -> Vec<String> {
        let script = "return [...document.querySelectorAll(arguments[0])].map((element) => element.textContent);";
        let texts = self.run(script, vec![css.into()]).await;
        serde_json::from_value(texts).expect("texts")
    }

    /// How many visible elements `css` selects.
    pub(crate) async fn seen(&self, css: &str) -> usize {
        let script = "return [...document.querySelectorAll(arguments[0])].filter((element) => element.checkVisibility()).length;";
        let seen = self.run(script, vec![css.into()]).await;
        usize::try_from(seen.as_u64().expect("a number")).expect("a small number")
    }

    /// Waits until something visible that `css` selects has a text for which `wanted` holds; `what` says it.
    pub(crate) async fn until(&self, css: &str, what: &str, wanted: impl Fn(&str) -> bool) {
        let script = "return [...document.querySelectorAll(arguments[0])].filter((element) => element.checkVisibility()).map((element) => element.innerText);";
        eventually(format_args!("{css} {what}"), async || {
            let texts = self.run(script, vec![css.into()]).await;
            let texts: Vec<String> = serde_json::from_value(texts).expect("texts");
            expect_that(texts.iter().any(|text| wanted(text)), || {
                format!("{texts:?}")
            })
        })
        .await;
    }

    /// Waits until something visible that `css` selects contains `text`.
    pub(crate) async fn shows(&self, css: &str, text: &str) {
        self.until(css, &format!("shows {text:?}"), |found| {
            found.contains(text)
        })
        .await;
    }

    /// Waits until nothing that `css` selects is visible.
    pub(crate) async fn hides(&self, css: &str) {
        eventually(format_args!("{css} is not to be seen"), async || {
            let seen = self.seen(css).await;
            expect_that(seen == 0, || format!("{seen} are"))
        })
        .await;
    }

    /// The first element that `css` selects, once it is there and can be used.
    async fn element(&self, css: &str) -> WebElement {
        eventually(format_args!("there is a {css}"), async || {
            let found = self.handle.find(By::Css(css)).await;
            let element = found.map_err(|error| error.to_string())?;
            let shown = element.is_displayed().await;
            expect_that(shown.unwrap_or(false), || "it is hidden".to_owned()).map(|()| element)
        })
        .await
    }

    /// Clicks what `css` selects, as a person would: something above it fails the test.
    pub(crate) async fn click(&self, css: &str) {
        eventually(format_args!("{css} is clicked"), async || {
            let clicked = self.element(css).await.click().await;
            clicked.map_err(|error| error.to_string())
        })
        .await;
    }

    /// Puts the pointer over what `css` selects.
    pub(crate) async fn point_at(&self, css: &str) {
        let element = self.element(css).await;
        let moved = self.handle.action_chain().move_to_element_center(&element);
        let moved = moved.perform().await;
        moved.unwrap_or_else(|error| panic!("{css}: {error}"));
    }

    /// Empties the field that `css` selects and types `text` into it.
    pub(crate) async fn fill(&self, css: &str, text: &str) {
        let field = self.element(css).await;
        field.clear().await.expect("a field can be emptied");
        field.send_keys(text).await.expect("a field can be filled");
    }

    /// Presses keys, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let typed = self.handle.action_chain().send_keys(keys).perform().await;
        typed.unwrap_or_else(|error| panic!("{keys}: {error}"));
    }

    /// Presses one key that has no letter.
    pub(crate) async fn press_key(&self, key: Key) {
        let typed = self.handle.action_chain().send_keys(key).perform().await;
        typed.unwrap_or_else(|error| panic!("a key: {error}"));
    }

    /// What the browser's console complained of so far: errors, broken rules of content security, failed loads.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let log = self.handle.browser_log().await.expect("there is a log");
        log.into_iter()
            .filter(|entry| entry.level == "SEVERE" || entry.level == "WARNING")
            .map(|entry| entry.message)
            .filter(|message| !message.contains("ERR_NETWORK_CHANGED"))
            .collect()
    }
}

impl Drop for Browser {
    /// Ends the browser; where that fails it ends with chromedriver, whose end closes its pipe.
    fn drop(&mut self) {
        let driver = self.driver.get_mut().ok().and_then(Option::take);
        let Some(driver) = driver else { return };
        // The test's runtime may be ending; this waits outside it.
        let ending = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .ok()?;
            let ended = async { tokio::time::timeout(END_LIMIT, driver.quit()).await };
            runtime.block_on(ended).ok()?.ok()
        });
        let _ = ending.join();
    }
}

/// The path of a program.
///
/// # Panics
/// Where it is not installed.
fn program(name: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found: Option<PathBuf> = std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|file| file.is_file());
    let found = found.unwrap_or_else(|| {
        panic!("no {name}: scripts/test installs it (Debian: chromium, chromium-driver)")
    });
    found.to_str().expect("its name is UTF-8").to_owned()
}

/// A chromedriver on a free port. It takes one that is free for IPv6, and ends if that port is not free for IPv4.
async fn chromedriver() -> (Child, u16) {
    let mut last = String::new();
    for _ in 0..CHROMEDRIVERS {
        match start_chromedriver().await {
            Ok(started) => return started,
            Err(said) => last = said,
        }
    }
    panic!(
        "chromedriver ended {CHROMEDRIVERS} times without naming a port; at last it said: {last}"
    );
}

/// Starts a chromedriver; its last line if it ends without naming a port.
async fn start_chromedriver() -> Result<(Child, u16), String> {
    let mut child = Command::new(program("chromedriver"))
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("chromedriver starts");
    let output = child.stdout.take().expect("it is piped");
    let mut lines = BufReader::new(output).lines();
    let port = within("chromedriver's port", async {
        let mut last = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            // "ChromeDriver was started successfully on port 40123."
            let port = line
                .rsplit_once("successfully on port ")
                .map(|(_, port)| port.trim_end_matches('.'));
            if let Some(port) = port.and_then(|port| port.parse().ok()) {
                return Ok(port);
            }
            last = line;
        }
        Err(last)
    })
    .await?;
    // Were the pipe closed, it would end at the next line.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((child, port))
}

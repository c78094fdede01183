//! The routes, what every request goes through, and what every answer says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use futures::{Stream, stream};
use tokio::sync::watch;

use super::{
    api::{self, Answer},
    asking::Asking,
    board::{Board, State as JobState},
    events::{Frame, Results, Watching},
    guard::{Asked, Guard, Verdict, unescaped},
    metrics, page, travel,
};
use crate::batch::clock::now_us;

/// Browsers and programs that may watch at once.
const WATCHERS_MAX: usize = 16;

/// So that a connection that is gone is noticed, and proxies keep one that is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// A page without a script waits so long for results that nobody has read yet.
const RESULTS_WITHIN: Duration = Duration::from_secs(2);

/// So long after a page was loaded its results are kept fresh, until it watches by itself.
const RESULTS_KEPT_FRESH: Duration = Duration::from_secs(3);

/// What every answer says: nothing from elsewhere, shown nowhere else, kept nowhere.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the routes work with.
pub struct App {
    pub board: Arc<Board>,
    pub asking: Arc<Asking>,
    pub results: Arc<Results>,
    pub guard: Guard,
    pub frames: watch::Sender<Arc<Frame>>,
    pub watchers: AtomicUsize,
}

/// The query of an address.
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub fn of(query: Option<&str>) -> Parameters {
        let pairs = query.unwrap_or_default().split('&').filter(|part| !part.is_empty());
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (unescaped(name), unescaped(value))
        };
        Parameters(pairs.map(pair).collect())
    }

    /// A name that is none of these: a misspelt one would be passed over without a word.
    pub fn unknown(&self, known: &[&str]) -> Option<&str> {
        self.0.iter().map(|(key, _)| key.as_str()).find(|key| !known.contains(key))
    }

    /// The first value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// All routes, guarded.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(whole))
        .route(travel::PLACE, get(travel_page))
        .route("/page.css", get(async || text("text/css; charset=utf-8", include_str!("page.css").to_owned())))
        .route("/page.js", get(async || text("text/javascript; charset=utf-8", include_str!("page.js").to_owned())))
        .route("/page/events", get(page_events))
        .route("/page/travel", get(travelled))
        .route("/api/v1/job", get(async |State(app): State<Arc<App>>| json(api::job(&app.board.snapshot()))))
        .route("/api/v1/progress", get(async |State(app): State<Arc<App>>| json(api::progress(&app.board.snapshot()))))
        .route("/api/v1/events", get(progress_events))
        .route(
            "/api/v1/batches",
            get(async |State(app): State<Arc<App>>, request: Request| {
                json(api::batches(&app, &parameters(&request)).await)
            }),
        )
        .route(
            "/api/v1/batches/{batch}",
            get(async |State(app): State<Arc<App>>, Path(batch): Path<String>| json(api::batch(&app, &batch).await)),
        )
        .route(
            "/api/v1/results/{query}",
            get(async |State(app): State<Arc<App>>, Path(query): Path<String>, request: Request| {
                json(api::result(&app, query, &parameters(&request)).await)
            }),
        )
        .route(
            "/api/v1/diff/{query}",
            get(async |State(app): State<Arc<App>>, Path(query): Path<String>, request: Request| {
                json(api::diff(&app, query, &parameters(&request)).await)
            }),
        )
        .route(
            "/api/v1/query",
            get(async |State(app): State<Arc<App>>, request: Request| {
                json(api::query(&app, &parameters(&request)).await)
            }),
        )
        .route(
            "/metrics",
            get(async |State(app): State<Arc<App>>| {
                text("text/plain; version=0.0.4; charset=utf-8", metrics::text(&app.board.snapshot(), now_us()))
            }),
        )
        .route("/healthz", get(async || json(Answer { status: 200, body: r#"{"status":"alive"}"#.to_owned() })))
        .route("/readyz", get(ready))
        .fallback(async || {
            json(Answer::bad(404, "nothing is here: / is the page, /api/v1/job the job, /metrics the metrics"))
        })
        .layer(from_fn_with_state(Arc::clone(&app), guarded))
        .with_state(app)
}

/// Lets in who may ask, and puts on each answer what all have.
async fn guarded(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let verdict = {
        let header = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        app.guard.judge(&Asked {
            method: request.method().as_str(),
            path: request.uri().path(),
            query: request.uri().query(),
            host: header(header::HOST),
            authorization: header(header::AUTHORIZATION),
            cookies: header(header::COOKIE),
            site: header(HeaderName::from_static("sec-fetch-site")),
            mode: header(HeaderName::from_static("sec-fetch-mode")),
            dest: header(HeaderName::from_static("sec-fetch-dest")),
        })
    };
    let mut response = match verdict {
        Verdict::Allowed => next.run(request).await,
        Verdict::SetCookie { cookie, location } => {
            let mut response = StatusCode::SEE_OTHER.into_response();
            put(&mut response, header::SET_COOKIE, &cookie);
            put(&mut response, header::LOCATION, &location);
            response
        }
        Verdict::Refused { status, why } => {
            let mut response = json(Answer::bad(status, why));
            match status {
                401 => put(&mut response, header::WWW_AUTHENTICATE, "Bearer"),
                405 => put(&mut response, header::ALLOW, "GET, HEAD"),
                _ => {}
            }
            // a body may follow that nobody reads
            put(&mut response, header::CONNECTION, "close");
            response
        }
    };
    for (name, value) in HEADERS {
        put(&mut response, name, value);
    }
    response
}

/// Sets a header; a value that can be none is left out.
fn put(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn text(kind: &str, body: String) -> Response {
    let mut response = Body::from(body).into_response();
    put(&mut response, header::CONTENT_TYPE, kind);
    response
}

fn json(answer: Answer) -> Response {
    let mut response = text("application/json", answer.body);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if answer.status == 429 {
        put(&mut response, header::RETRY_AFTER, "1");
    }
    response
}

fn parameters(request: &Request) -> Parameters {
    Parameters::of(request.uri().query())
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let state = app.board.snapshot().state(now_us());
    let status = if matches!(state, JobState::Starting | JobState::Failed) { 503 } else { 200 };
    json(Answer { status, body: format!("{{\"status\":\"{}\"}}", state.word()) })
}

async fn whole(State(app): State<Arc<App>>) -> Response {
    // results that nobody has read yet are waited for a little; who has no script reads them by asking again
    let watching = app.results.watch();
    let mut results = app.results.newest.subscribe();
    if results.borrow().0.is_none() && app.board.high_water_mark().is_some() {
        drop(tokio::time::timeout(RESULTS_WITHIN, results.changed()).await);
    }
    let results = Arc::clone(&results.borrow().1);
    let known = app.board.snapshot();
    // whoever reloads the page finds newer ones the next time
    tokio::spawn(async move {
        tokio::time::sleep(RESULTS_KEPT_FRESH).await;
        drop(watching);
    });
    text("text/html; charset=utf-8", page::whole(&known, now_us(), &results))
}

async fn travel_page(State(app): State<Arc<App>>, request: Request) -> Response {
    let (known, wanted) = (app.board.snapshot(), travel::Wanted::of(&parameters(&request)));
    text("text/html; charset=utf-8", travel::page(&app.asking, &known, &wanted, now_us()).await)
}

async fn travelled(State(app): State<Arc<App>>, request: Request) -> Response {
    let wanted = travel::Wanted::of(&parameters(&request));
    text("text/html; charset=utf-8", travel::answer(&app.asking, &app.board.snapshot(), &wanted).await)
}

/// A place among those who watch, given back when it is dropped.
struct Place(Arc<App>);

impl Place {
    fn take(app: &Arc<App>) -> Option<Place> {
        let taken = app.watchers.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(app));
        (taken < WATCHERS_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What one who watches has seen.
struct Watcher {
    frames: watch::Receiver<Arc<Frame>>,
    seen: u64,
    over: bool,
    wants_results: Option<Watching>,
    _place: Place,
}

fn watched(app: &Arc<App>, wants_results: bool, tell: fn(&Watcher, &Frame) -> Option<Event>) -> Response {
    let Some(place) = Place::take(app) else {
        return json(Answer::bad(429, "16 watch already: close one of their pages"));
    };
    let watcher = Watcher {
        frames: app.frames.subscribe(),
        seen: 0,
        over: false,
        wants_results: wants_results.then(|| app.results.watch()),
        _place: place,
    };
    let events = told(watcher, tell);
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// An event for each frame that has something new, until the job ends.
fn told(
    watcher: Watcher,
    tell: fn(&Watcher, &Frame) -> Option<Event>,
) -> impl Stream<Item = Result<Event, std::convert::Infallible>> {
    stream::unfold(watcher, move |mut watcher| async move {
        while !watcher.over {
            watcher.frames.changed().await.ok()?;
            let frame = Arc::clone(&watcher.frames.borrow_and_update());
            let event = tell(&watcher, &frame);
            watcher.seen = frame.number;
            watcher.over = frame.last;
            if let Some(event) = event {
                return Some((Ok(event), watcher));
            }
        }
        None
    })
}

/// The parts of the page that changed, by the ids of their elements.
async fn page_events(State(app): State<Arc<App>>, request: Request) -> Response {
    let wants_results = parameters(&request).get("results").is_some();
    watched(&app, wants_results, |watcher, frame| {
        let changed = frame.parts.iter().filter(|part| part.since > watcher.seen);
        let wanted = changed.filter(|part| part.id != "results" || watcher.wants_results.is_some());
        let parts: serde_json::Map<String, serde_json::Value> =
            wanted.map(|part| (part.id.to_owned(), (*part.html).into())).collect();
        if parts.is_empty() && !frame.last {
            return None;
        }
        let name = if frame.last { "last" } else { "parts" };
        Some(Event::default().event(name).data(serde_json::Value::Object(parts).to_string()))
    })
}

/// The newest progress object whenever there is one, and how the job ended.
async fn progress_events(State(app): State<Arc<App>>) -> Response {
    watched(&app, false, |watcher, frame| {
        let newest = frame.progress.as_ref().filter(|(since, _)| *since > watcher.seen);
        match (newest, frame.last) {
            (_, true) => Some(Event::default().event("end").data(frame.state)),
            (Some((_, progress)), false) => Some(Event::default().event("progress").data(&**progress)),
            (None, false) => None,
        }
    })
}

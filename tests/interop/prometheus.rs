//! The dashboard and the alerts of `docs/prometheus`, in a real Prometheus that reads the example `metrics`.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use url::Url;

use crate::{
    example::{Example, free_port},
    visitor::Visitor,
};

const DASHBOARD: &str = include_str!("../../docs/prometheus/dashboard.json");
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/prometheus/rules.yml");

/// A Prometheus that reads an app every half second.
struct Prometheus {
    process: Child,
    port: u16,
    http: reqwest::Client,
    _directory: TempDir,
}

impl Prometheus {
    fn start(app: u16) -> Prometheus {
        let (port, directory) = (free_port(), TempDir::new().unwrap());
        let config = format!(
            "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms }}\n\
             rule_files: ['{RULES}']\n\
             scrape_configs: [{{ job_name: app, static_configs: [{{ targets: ['127.0.0.1:{app}'] }}] }}]\n"
        );
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("prometheus.yml"), config).unwrap();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", path("prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path("data")))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("scripts/interop installs prometheus");
        Prometheus {
            process,
            port,
            http: crate::patience::client_builder().build().unwrap(),
            _directory: directory,
        }
    }

    /// The series that a query returns now; the error of a query that Prometheus refuses.
    async fn series(&self, query: &str) -> Result<Vec<Value>, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let url = Url::parse_with_params(&url, [("query", query)]).unwrap();
        let Ok(response) = self.http.get(url).send().await else {
            return Ok(vec![]);
        };
        let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default();
        match answer["error"].as_str() {
            Some(error) => Err(format!("{query}: {error}")),
            None => Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Presses a button of the development provider's page. Returns the callback.
async fn press(visitor: &Visitor, authorization_request: &str, user: &str) -> String {
    let page = visitor.visit(authorization_request).await.body;
    let field = page.split("name=\"request\"").nth(1).unwrap();
    let request = field.split('"').nth(1).unwrap();
    let url = Url::parse(authorization_request).unwrap().join("/authorize").unwrap();
    let http = crate::patience::client_builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let form = format!("request={request}&user={user}");
    let response = http
        .post(url)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body(form);
    let response = response.send().await.unwrap();
    response.headers()["location"].to_str().unwrap().to_owned()
}

/// One person's way through the app: in, to pages, a refresh, an API, a failure, and out.
async fn visit(app: &Example, provider: &str) {
    let at = |path: &str| app.at("localhost", path);
    let visitor = Visitor::new();
    let login = visitor.visit(&at("/oidc/login?next=/profile")).await.location.unwrap();
    let callback = press(&visitor, &login, "alice").await;
    assert_eq!(visitor.visit(&callback).await.status, 303);
    for path in ["/profile", "/profile", "/profile/now"] {
        assert_eq!(visitor.visit(&at(path)).await.status, 200, "{path}");
    }
    assert_eq!(
        visitor
            .visit(&at("/oidc/authorize?code=c&state=of-no-attempt"))
            .await
            .status,
        400
    );
    let http = crate::patience::client_builder().build().unwrap();
    let request = http
        .post(format!("{provider}/token"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials&client_id=dev-cli&client_secret=dev-cli&scope=profile");
    let reply: Value = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    let token = reply["access_token"].as_str().unwrap_or_default().to_owned();
    for token in [&*token, &*token, "of.no.token"] {
        let request = http.get(at("/api/profile")).bearer_auth(token);
        request.send().await.unwrap();
    }
    visitor.submit(&at("/oidc/logout")).await;
}

/// Every query of the dashboard, with its variables replaced.
fn queries_of_dashboard() -> BTreeSet<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    let queries = targets.map(|target| target["expr"].as_str().unwrap());
    let queries = queries.map(|query| {
        let query = query.replace("$__rate_interval", "1m");
        query.replace("$job", ".*").replace("$provider", ".*")
    });
    let queries: BTreeSet<_> = queries.collect();
    assert!(
        queries.len() > 12 && !queries.iter().any(|query| query.contains('$')),
        "{queries:#?}"
    );
    // The variables choose from labels of these.
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let of_variables = variables.filter_map(|variable| {
        let query = variable["definition"].as_str()?.strip_prefix("label_values(")?;
        query.split(',').next().map(str::to_owned)
    });
    queries.iter().cloned().chain(of_variables).collect()
}

/// Every recorded series, and what each alert compares with its threshold.
fn queries_of_rules() -> BTreeSet<String> {
    let text = fs::read_to_string(RULES).unwrap();
    let mut found = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- record: ") {
            found.insert(name.to_owned());
        } else if let Some((query, threshold)) = line.strip_prefix("expr: ").and_then(|expr| expr.rsplit_once(" > ")) {
            assert!(threshold.parse::<f64>().is_ok(), "{line}");
            found.insert(query.to_owned());
        }
    }
    let alerts = text.matches("- alert: ").count();
    let records = text.matches("- record: ").count();
    assert!(alerts > 5 && found.len() >= records.max(alerts), "{found:#?}");
    found
}

#[rocket::async_test]
#[ignore = "needs Prometheus: run scripts/interop"]
async fn each_query_of_the_dashboard_and_the_alerts_has_a_series() {
    let (port, provider_port) = (free_port(), free_port());
    let dev_provider = format!("{{port={provider_port}}}");
    let app = Example::start("metrics", port, &[("OIDC_DEV_PROVIDER", &dev_provider)]);
    let prometheus = Prometheus::start(port);
    let provider = format!("http://localhost:{provider_port}");
    let mut missing: BTreeSet<String> = queries_of_dashboard();
    missing.extend(queries_of_rules());
    let begun = Instant::now();
    while !missing.is_empty() {
        visit(&app, &provider).await;
        let mut still = BTreeSet::new();
        for query in missing {
            // A ratio of nothing is no number.
            let series = prometheus.series(&query).await.unwrap();
            let is_number = |series: &Value| series["value"][1].as_str().is_some_and(|value| value != "NaN");
            if !series.iter().any(is_number) {
                still.insert(query);
            }
        }
        missing = still;
        assert!(begun.elapsed() < Duration::from_secs(60), "no series: {missing:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Under this load, half of the sign-ins end at no attempt, which is no failure of the app.
    let failures = prometheus.series("oidc:sign_in_failures:ratio5m").await.unwrap();
    assert!(failures.iter().all(|series| series["value"][1] == "0"), "{failures:#?}");
    // Labels have the values of the manual, and none of a stranger.
    let providers = prometheus
        .series("count by (provider) (oidc_sign_ins_total)")
        .await
        .unwrap();
    let providers: Vec<_> = providers.iter().map(|series| &series["metric"]["provider"]).collect();
    assert_eq!(providers, ["default"]);
}

#[test]
#[ignore = "needs Prometheus: run scripts/interop"]
fn promtool_accepts_the_rules() {
    let checked = Command::new("promtool")
        .args(["check", "rules", RULES])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(Path::new(RULES).exists() && told.contains("rules found"), "{told}");
}

//! The app: each module is one other crate beside our guards.

use std::path::Path;

use rocket::{Build, Rocket, figment::Figment, fs::relative};
use rocket_openidconnect::Oidc;
use serde_json::json;

/// A page elsewhere that may call the API.
pub const OTHER_ORIGIN: &str = "https://pages.example";
/// The origin of its own pages.
const OWN_ORIGIN: &str = "http://localhost:8000";

pub mod templates {
    //! rocket_dyn_templates: a template gets the user as a value, or the visitor by `render`. `Template` is rendered by the
    //! engine alone, so neither guard nor request is seen in it.

    use rocket::{Request, catch, get};
    use rocket_dyn_templates::{Template, context};
    use rocket_openidconnect::{LoggedIn, OptionalUser, VisitorTemplate, render};

    #[get("/tera")]
    pub fn tera(visitor: OptionalUser) -> Template {
        Template::render("tera", context! { visitor })
    }

    #[get("/minijinja")]
    pub fn minijinja(user: LoggedIn) -> Template {
        Template::render("minijinja", context! { user })
    }

    #[get("/render/<engine>")]
    pub fn both(engine: &str) -> Option<VisitorTemplate> {
        let name = match engine {
            "tera" => "tera",
            "minijinja" => "visitor",
            _ => return None,
        };
        Some(render(name, context! { page: engine }))
    }

    #[catch(404)]
    pub fn not_found(request: &Request<'_>) -> VisitorTemplate {
        render("visitor", context! { page: request.uri().path().as_str() })
    }
}

pub mod pools {
    //! rocket_db_pools: one connection in the handler, asked for after the user, so that a signed-out request takes none.

    use rocket::get;
    use rocket_db_pools::{
        Connection, Database,
        sqlx::{self, Row},
    };
    use rocket_openidconnect::LoggedIn;

    #[derive(Database)]
    #[database("people")]
    pub struct People(sqlx::SqlitePool);

    #[get("/async-pool")]
    pub async fn rows(user: LoggedIn, mut people: Connection<People>) -> Option<String> {
        let row = sqlx::query("SELECT 'row of ' || ?")
            .bind(user.subject())
            .fetch_one(&mut **people)
            .await;
        row.ok()?.try_get(0).ok()
    }
}

pub mod sync_pools {
    //! rocket_sync_db_pools: the query runs on another thread, so it takes what it needs of the user with it.

    use diesel::{RunQueryDsl, sql_types::Text};
    use rocket::get;
    use rocket_openidconnect::LoggedIn;
    use rocket_sync_db_pools::database;

    #[database("ledger")]
    pub struct Ledger(diesel::SqliteConnection);

    #[derive(diesel::QueryableByName)]
    struct Entry {
        #[diesel(sql_type = Text)]
        text: String,
    }

    #[get("/sync-pool")]
    pub async fn entries(user: LoggedIn, ledger: Ledger) -> Option<String> {
        let subject = user.subject().to_owned();
        let query = move |connection: &mut diesel::SqliteConnection| {
            diesel::sql_query("SELECT 'entry of ' || ? AS text")
                .bind::<Text, _>(subject)
                .get_result::<Entry>(connection)
        };
        Some(ledger.run(query).await.ok()?.text)
    }
}

pub mod cors {
    //! rocket_cors, as a fairing: it adds its headers to every response, also to the 401 of a guard. It rejects every other
    //! origin with 403, so the app's own must be allowed: a browser sends it with a handshake and with every `POST`.

    use rocket::get;
    use rocket_cors::{AllowedHeaders, AllowedOrigins, Cors, CorsOptions};
    use rocket_openidconnect::{Bearer, scopes};

    scopes! { pub Read = "api:read"; }

    #[get("/api")]
    pub fn api(token: Bearer<Read>) -> String {
        token.subject().unwrap_or("a client").to_owned()
    }

    pub fn fairing() -> Cors {
        CorsOptions {
            allowed_origins: AllowedOrigins::some_exact(&[super::OTHER_ORIGIN, super::OWN_ORIGIN]),
            allowed_headers: AllowedHeaders::some(&["Authorization"]),
            expose_headers: ["WWW-Authenticate".to_owned()].into(),
            ..CorsOptions::default()
        }
        .to_cors()
        .expect("the options are valid")
    }
}

pub mod websocket {
    //! rocket_ws: the guard runs at the handshake, and a handshake from another origin is rejected.

    use rocket::get;
    use rocket_openidconnect::LoggedIn;
    use rocket_ws::{Stream, WebSocket};

    #[get("/socket")]
    pub fn socket(user: LoggedIn, socket: WebSocket) -> Stream!['static] {
        let subject = user.subject().to_owned();
        Stream! { socket =>
            yield format!("hello {subject}").into();
            for await message in socket {
                yield message?;
            }
        }
    }
}

pub mod graphql {
    //! async-graphql: the user is data of the request.

    use async_graphql::{Context, EmptyMutation, EmptySubscription, Object, Schema};
    use async_graphql_rocket::{GraphQLRequest, GraphQLResponse};
    use rocket::{State, post};
    use rocket_openidconnect::{OptionalUser, User};

    pub type ApiSchema = Schema<Query, EmptyMutation, EmptySubscription>;

    pub struct Query;

    #[Object]
    impl Query {
        async fn public(&self) -> &str {
            "for everyone"
        }

        async fn me<'c>(&self, context: &Context<'c>) -> async_graphql::Result<&'c str> {
            let user = context.data_opt::<User>().ok_or("signed out")?;
            Ok(user.subject())
        }
    }

    pub fn schema() -> ApiSchema {
        Schema::new(Query, EmptyMutation, EmptySubscription)
    }

    #[post("/async-graphql", data = "<request>")]
    pub async fn graphql(visitor: OptionalUser, schema: &State<ApiSchema>, request: GraphQLRequest) -> GraphQLResponse {
        let mut request = request;
        if let Some(user) = visitor.into_user() {
            request = request.data(user);
        }
        request.execute(&**schema).await
    }
}

pub mod juniper_graphql {
    //! juniper: the caller is the context, so a request without one is rejected before it is executed.

    use juniper::{EmptyMutation, EmptySubscription, RootNode, graphql_object};
    use juniper_rocket::{GraphQLRequest, GraphQLResponse};
    use rocket::{State, post};
    use rocket_openidconnect::Caller;

    use super::cors::Read;

    pub struct Context(Caller<Read>);

    impl juniper::Context for Context {}

    pub struct Query;

    #[graphql_object(context = Context)]
    impl Query {
        fn me(context: &Context) -> String {
            context.0.subject().unwrap_or("a client").to_owned()
        }
    }

    pub type Schema = RootNode<Query, EmptyMutation<Context>, EmptySubscription<Context>>;

    pub fn schema() -> Schema {
        Schema::new(Query, EmptyMutation::new(), EmptySubscription::new())
    }

    #[post("/juniper", data = "<request>")]
    pub async fn graphql(caller: Caller<Read>, schema: &State<Schema>, request: GraphQLRequest) -> GraphQLResponse {
        request.execute(&**schema, &Context(caller)).await
    }
}

pub mod openapi {
    //! rocket_okapi and utoipa: two documents of the same routes, completed by the same guard.

    use rocket::{State, get, serde::json::Json};
    use rocket_okapi::{okapi::openapi3::OpenApi, openapi};
    use rocket_openidconnect::{Bearer, SecuritySchemes};
    use serde_json::Value;
    use utoipa::OpenApi as _;

    use super::cors::Read;

    #[openapi]
    #[get("/okapi")]
    pub fn okapi(token: Bearer<Read>) -> String {
        token.subject().unwrap_or("a client").to_owned()
    }

    #[utoipa::path(
        get,
        path = "/okapi",
        responses((status = 200, body = String)),
        security(("oidc" = ["api:read"]), ("oauth2" = ["api:read"]), ("bearer" = [])),
    )]
    #[allow(dead_code, reason = "it has only the annotation")]
    fn described() {}

    #[derive(utoipa::OpenApi)]
    #[openapi(paths(described))]
    struct Api;

    #[get("/okapi.json")]
    pub fn okapi_document(spec: &State<OpenApi>, schemes: SecuritySchemes) -> Option<Json<Value>> {
        schemes.complete(spec.inner()).ok().map(Json)
    }

    #[get("/utoipa.json")]
    pub fn utoipa_document(schemes: SecuritySchemes) -> Option<Json<Value>> {
        schemes.complete(Api::openapi()).ok().map(Json)
    }
}

pub mod metrics {
    //! Two sets of metrics: rocket_prometheus counts Rocket's requests, and ours come by the facade `metrics`.

    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
    use rocket::{State, get};

    pub struct Own(pub PrometheusHandle);

    #[get("/metrics/oidc")]
    pub fn oidc(own: &State<Own>) -> String {
        own.0.render()
    }

    /// The recorder is the process's: there is one for all apps of the tests.
    pub fn recorder() -> PrometheusHandle {
        static RECORDER: std::sync::OnceLock<PrometheusHandle> = std::sync::OnceLock::new();
        let install = || {
            PrometheusBuilder::new()
                .install_recorder()
                .expect("there is no other recorder")
        };
        RECORDER.get_or_init(install).clone()
    }
}

fn figment(folder: &Path) -> Figment {
    let people = format!("sqlite://{}?mode=rwc", folder.join("people.db").display());
    let oidc = json!({
        "audience": "https://api.example.com", "base_url": OWN_ORIGIN, "scopes": "openid email profile groups",
    });
    Figment::from(rocket::Config::debug_default())
        .merge(("template_dir", relative!("templates")))
        .merge(("databases.people.url", people))
        .merge(("databases.ledger.url", folder.join("ledger.db")))
        .merge(("oidc", oidc))
}

/// An app with the socket alone.
pub fn websocket_app(folder: &Path) -> Rocket<Build> {
    rocket::custom(figment(folder))
        .attach(Oidc::fairing())
        .mount("/", rocket::routes![websocket::socket])
}

/// The app, with its databases in this folder.
pub fn rocket(folder: &Path) -> Rocket<Build> {
    let (okapi_routes, spec) = rocket_okapi::openapi_get_routes_spec![openapi::okapi];
    let prometheus = rocket_prometheus::PrometheusMetrics::new();
    rocket::custom(figment(folder))
        .attach(Oidc::fairing())
        .attach(rocket_dyn_templates::Template::fairing())
        .attach(<pools::People as rocket_db_pools::Database>::init())
        .attach(sync_pools::Ledger::fairing())
        .attach(cors::fairing())
        .attach(prometheus.clone())
        .manage(graphql::schema())
        .manage(juniper_graphql::schema())
        .manage(spec)
        .manage(metrics::Own(metrics::recorder()))
        .mount(
            "/",
            rocket::routes![
                templates::tera,
                templates::minijinja,
                templates::both,
                pools::rows,
                sync_pools::entries,
                cors::api,
                websocket::socket,
                graphql::graphql,
                juniper_graphql::graphql,
                openapi::okapi_document,
                openapi::utoipa_document,
                metrics::oidc,
            ],
        )
        .register("/", rocket::catchers![templates::not_found])
        .mount("/", okapi_routes)
        .mount("/metrics", prometheus)
}

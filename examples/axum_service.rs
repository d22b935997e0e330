//! An HTTP service whose configuration changes while it serves.
//!
//! ```sh
//! cargo run --example axum_service &
//! curl http://127.0.0.1:3000/           # hello
//! mkdir -p config && echo 'greeting = "good morning"' > config/service.toml
//! curl http://127.0.0.1:3000/           # good morning
//! ```

use axum::{Router, routing::get};
use liveprops::Properties;
use liveprops::sources::{Env, File};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let props = Properties::builder() // blocks, so it runs before the async runtime
        .source(File::new("config/service.toml").allow_missing())
        .source(Env::prefix("SERVICE_")) // SERVICE_GREETING=hi overrides the file
        .build()?;
    let hello = "hello".to_owned();
    let greeting = props.property("greeting").default(hello).build()?;

    let routes = Router::new()
        .route("/", get(async move || greeting.get())) // always the current value
        .route(
            "/health",
            get(async move || format!("{:?}", props.status())),
        );
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
        axum::serve(listener, routes).await
    })?;
    Ok(())
}

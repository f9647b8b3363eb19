//! The app on a port of its own, and requests to it as bytes.

use std::sync::Mutex;

use rocket::{
    Build, Ignite, Rocket, Shutdown,
    fairing::AdHoc,
    tokio::{
        self,
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
        task::JoinHandle,
    },
};

pub struct Server {
    port: u16,
    shutdown: Shutdown,
    task: JoinHandle<Result<Rocket<Ignite>, rocket::Error>>,
}

impl Server {
    /// Launches the app, on a free port.
    pub async fn start(rocket: Rocket<Build>) -> Server {
        let (tell, port) = oneshot::channel();
        let tell = Mutex::new(Some(tell));
        let figment = rocket.figment().clone().merge(("port", 0));
        let liftoff = AdHoc::on_liftoff("Port", move |rocket| {
            let tell = tell.lock().unwrap().take().unwrap();
            let _ = tell.send(rocket.config().port);
            Box::pin(async {})
        });
        let rocket = rocket.configure(figment).attach(liftoff);
        let rocket = rocket.ignite().await.expect("the app ignites");
        let shutdown = rocket.shutdown();
        let task = tokio::spawn(rocket.launch());
        let port = port.await.expect("the app lifts off");
        Server { port, shutdown, task }
    }

    /// The answer to a request, head and body.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> String {
        self.send("GET", path, headers).await
    }

    /// As [`get`](Self::get), with any method and an empty body.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    pub async fn stop(self) {
        self.shutdown.notify();
        self.task.await.unwrap().expect("an orderly shutdown");
    }
}

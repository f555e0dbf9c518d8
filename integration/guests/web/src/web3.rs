//! A component of `wasi:http/service` 0.3: it sends the body of a request back as it comes, or says
//! hello where the path is /.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_future, wit_stream};

struct Web;

wasip3::http::service::export!(Web);

impl Guest for Web {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        if path == "/trap" {
            panic!("asked to");
        }
        let (_, received) = wit_future::new(|| Ok(()));
        let (_, trailers) = wit_future::new(|| Ok(None));
        let body = if path == "/" {
            let (mut to, body) = wit_stream::new();
            wit_bindgen::spawn_local(async move {
                to.write_all(b"hello from wasi:http 0.3\n".to_vec()).await;
            });
            body
        } else {
            Request::consume_body(request, received).0
        };
        Ok(Response::new(Fields::new(), Some(body), trailers).0)
    }
}

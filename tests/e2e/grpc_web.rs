//! gRPC-Web: a browser joins and watches its place by `fetch`, with frames written by hand.

use serde_json::json;

use crate::cross_origin::allows;
use crate::harness::Scene;
use crate::harness::browser::Browser;

/// Defines `call(method, fields, heard)`: a call of the service at `site`, whose messages `heard` gets one by one as
/// objects of field numbers; it comes to the trailers. Just enough of protobuf: strings and numbers below 2^53.
const GRPC_WEB: &str = r"
    window.site = found;
    const utf8 = new TextEncoder();
    const varint = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...varint(n >>> 7)]);
    const message = (fields) =>
      fields.flatMap(([number, text]) => {
        const bytes = [...utf8.encode(text)];
        return [(number << 3) | 2, ...varint(bytes.length), ...bytes];
      });
    const parse = (bytes) => {
      const fields = {};
      for (let at = 0; at < bytes.length; ) {
        const int = () => {
          for (let n = 0, size = 1; ; size *= 128) {
            const byte = bytes[at++];
            n += (byte & 127) * size;
            if (byte < 128) return n;
          }
        };
        const key = int();
        if ((key & 7) === 0) fields[key >> 3] = int();
        else if ((key & 7) === 1) at += 8;
        else {
          const size = int();
          fields[key >> 3] = bytes.subarray(at, (at += size));
        }
      }
      return fields;
    };
    window.parse = parse;
    window.utf = (bytes) => new TextDecoder().decode(bytes);
    window.call = async (method, fields, heard) => {
      const sent = message(fields);
      const answer = await fetch(`${site}/anteroom.v1.WaitingRoom/${method}`, {
        method: 'POST',
        headers: { 'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1' },
        body: new Uint8Array([0, 0, 0, sent.length >> 8, sent.length & 255, ...sent]),
      });
      // A call refused before its first message has its outcome in the headers.
      if (answer.headers.has('grpc-status')) return `grpc-status:${answer.headers.get('grpc-status')}`;
      const reader = answer.body.getReader();
      let rest = new Uint8Array();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return 'no trailers';
        rest = new Uint8Array([...rest, ...value]);
        while (rest.length >= 5) {
          const end = 5 + new DataView(rest.buffer).getUint32(1);
          if (rest.length < end) break;
          const body = rest.slice(5, end);
          if (rest[0] & 0x80) return utf(body).trim();
          heard(parse(body));
          rest = rest.slice(end);
        }
      }
    };";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_joins_and_watches_over_grpc_web() {
    let limits = [("capacity", "2"), ("session_ttl", "5m"), ("claim_ttl", "60s")];
    let scene = Scene::with_origin("a_browser_joins_and_watches_over_grpc_web", |config, origin| {
        allows(config.limits(&limits), origin)
    })
    .await;
    let (first, _second) = (scene.inside().await, scene.inside().await);
    // From another origin, so that CORS is part of it.
    let browser = Browser::at(&format!("{}/open/blank", scene.backend.origin())).await;
    browser.run(GRPC_WEB, json!(scene.ports.url(""))).await;
    let joined = browser
        .run(
            "let standing;
             const outcome = await call('Join', [[1, 'shop']], (joined) => {
               standing = parse(joined[1]);
               window.ticket = utf(joined[2]);
             });
             return [outcome, standing[1], utf(standing[2]), standing[4], ticket.split('.').length];",
            json!(null),
        )
        .await;
    // Status 1 is waiting, 2 called; field 4 is the position.
    assert_eq!(joined, json!(["grpc-status:0", 1, "shop", 1, 3]));

    browser
        .run(
            "window.told = [];
             call('WatchPosition', [[1, 'shop'], [2, ticket]], (message) => told.push(parse(message[1])[1]))
               .then((outcome) => (window.outcome = outcome));",
            json!(null),
        )
        .await;
    browser.until("told.at(-1) === 1").await;
    let early = browser.run("return call('Enter', [[1, 'shop'], [2, ticket]])", json!(null)).await;
    assert_eq!(early, json!("grpc-status:9"), "FAILED_PRECONDITION, readable from another origin");
    first.leave().await;
    browser.until("told.at(-1) === 2 && window.outcome === 'grpc-status:0'").await;

    let inside = browser
        .run(
            "let pass;
             await call('Enter', [[1, 'shop'], [2, ticket]], (entered) => (pass = utf(entered[2])));
             const answer = await fetch(site + '/shop', { headers: { 'x-anteroom-pass': pass } });
             return answer.status;",
            json!(null),
        )
        .await;
    assert_eq!(inside, json!(200));
}

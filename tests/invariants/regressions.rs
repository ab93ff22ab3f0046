//! x
use crate::history::{Op::*, Pause::*, World};
use crate::policies::CHOICES;
#[test]
fn scratch() {
    let a = |n: usize| Arrive(vec![(None, false); n]);
    let steps = [(Ms(0), a(4)), (Ms(0), Policy(251)), (Ms(30000), a(4)), (Ms(0), Save), (Ms(8678), Enter(vec![0])), (Ms(1322), a(2)), (Ms(0), Crash { ceiling: 0, back: 0, hints: false}), (Ms(1), Enter(vec![0])), (Ms(0), a(2)), (Edge(1, 0), Touch(vec![0])), (Ms(0), a(3)), (Ms(0), a(4)), (Edge(0, 0), Restart { back: 0}), (Ms(0), Enter(vec![162])), (Edge(3, 0), Enter(vec![0])), (Ms(6553), Observe(0)), (Ms(447), Enter(vec![236])), (Edge(0, 0), Restart { back: 50002}), (Edge(0, 0), a(1))];
    let mut w = World::new(CHOICES[0]);
    for (p, o) in &steps {
        let r = w.step(*p, o);
        println!("{} {o:?} -> {r:?}", w.now as i64 - crate::history::START as i64);
        let s: serde_json::Value = serde_json::to_value(&w.state).unwrap();
        println!("   sessions {} called {:?} pass9 {:?} seat9 {:?}", s["sessions"], w.seated(crate::auditor::Seat::Called), w.auditor.visitors.iter().nth(8).map(|(p,_)| w.auditor.passes.until(*p)), w.auditor.visitors.iter().nth(8));
    }
}

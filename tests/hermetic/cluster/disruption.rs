//! The disruption budget: places that nodes race for, renew, lose and give back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use trimtab::cluster::disruption::Budget;
use trimtab_domain::disruption::Turn;

use super::*;
use crate::support::api_server::Fault;

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/trimtab-system/leases";
const LASTS: Duration = Duration::from_secs(300);

fn budget(server: &Double, node: &str) -> Budget {
    let api = ApiServer::new(server.client());
    Budget::new(api, "trimtab-system".into(), node.into(), "test", LASTS)
}

fn holders(server: &Double) -> Vec<String> {
    let of = |lease: &Value| lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned();
    server.objects(LEASES).iter().map(of).filter(|holder| !holder.is_empty()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_place_is_taken_renewed_and_given_back() {
    let server = Double::new();
    let mut budget = budget(&server, "n1");
    assert_eq!(budget.look(2).await.unwrap(), Turn::MayTake(0));
    assert!(budget.take(0).await.unwrap());
    assert_eq!(holders(&server), ["n1"]);
    let version =
        || server.object(&format!("{LEASES}/trimtab-disruption-0")).unwrap()["metadata"]["resourceVersion"].clone();
    let first = version();
    assert_eq!(budget.look(2).await.unwrap(), Turn::Holds(0));
    assert_eq!(version(), first, "it was renewed just now");
    pass(Duration::from_secs(31)).await;
    assert_eq!(budget.look(2).await.unwrap(), Turn::Holds(0));
    assert_ne!(version(), first);
    budget.give_back().await.unwrap();
    assert_eq!(holders(&server), Vec::<String>::new());
    assert_eq!(budget.look(2).await.unwrap(), Turn::MayTake(0));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_holder_holds_and_one_that_is_gone_is_replaced_only_when_its_time_is_over() {
    let server = Double::new();
    let (mut first, mut second) = (budget(&server, "n1"), budget(&server, "n2"));
    assert_eq!(first.look(1).await.unwrap(), Turn::MayTake(0));
    assert!(first.take(0).await.unwrap());
    assert_eq!(budget(&server, "n1").look(1).await.unwrap(), Turn::Holds(0));
    assert_eq!(second.look(1).await.unwrap(), Turn::Waits);
    pass(LASTS - Duration::from_secs(1)).await;
    assert_eq!(second.look(1).await.unwrap(), Turn::Waits);
    pass(Duration::from_secs(2)).await;
    assert_eq!(second.look(1).await.unwrap(), Turn::MayTake(0));
    assert_eq!(budget(&server, "n3").look(1).await.unwrap(), Turn::Waits, "who has not watched does not know");
    assert!(second.take(0).await.unwrap());
    assert_eq!(holders(&server), ["n2"]);
    assert_eq!(first.look(1).await.unwrap(), Turn::Waits);
    first.give_back().await.unwrap();
    assert_eq!(holders(&server), ["n2"], "what is another's is not given back");
}

#[tokio::test(start_paused = true)]
async fn of_many_nodes_that_race_never_more_hold_than_there_are_places() {
    for places in [1_u32, 3] {
        let server = Double::new();
        let busy = Arc::new(Mutex::new((BTreeSet::new(), 0_usize)));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..25 {
            let (mut budget, busy) = (budget(&server, &format!("n{number}")), Arc::clone(&busy));
            tasks.spawn(async move {
                let me = format!("n{number}");
                loop {
                    // Errors of the server cost time, nothing else.
                    let got = match budget.look(places).await {
                        Ok(Turn::MayTake(place)) => budget.take(place).await.unwrap_or(false),
                        Ok(Turn::Holds(_)) => true,
                        _ => false,
                    };
                    if got {
                        break;
                    }
                    pass(Duration::from_millis(1000 + number)).await;
                }
                {
                    let mut busy = busy.lock().unwrap();
                    busy.0.insert(me.clone());
                    assert!(busy.0.len() <= usize::try_from(places).unwrap(), "{:?}", busy.0);
                    busy.1 += 1;
                }
                pass(Duration::from_secs(5)).await;
                busy.lock().unwrap().0.remove(&me);
                while budget.give_back().await.is_err() {
                    pass(Duration::from_secs(1)).await;
                }
            });
        }
        server.fault(Fault::status(409).on("update").of_resource("leases").times(5));
        server.fault(Fault::status(500).of_resource("leases").times(20));
        let all = async {
            while let Some(done) = tasks.join_next().await {
                done.unwrap()
            }
        };
        tokio::time::timeout(LIMIT, all).await.unwrap();
        assert_eq!(busy.lock().unwrap().1, 25, "everybody had its turn");
        assert_eq!(holders(&server), Vec::<String>::new());
    }
}

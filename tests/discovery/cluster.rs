//! A cluster of three servers of etcd: one that dies, one that is cut off, and one that is left alone.

use crate::etcd::{AGAIN, OF_NO_USE, backends, started, tunnels};
use crate::etcd_cluster::EtcdCluster;
use crate::lab::{Load, leads_to, of_source};
use crate::support::within;

#[tokio::test]
async fn a_server_of_three_that_dies_costs_nothing_and_changes_go_on_arriving() {
    let [one, two] = backends().await;
    let mut cluster = EtcdCluster::start().await;
    cluster.register("x", one.address).await;
    let gateway = started(&cluster.urls(), "").await;
    leads_to(&gateway, &[one.address]).await;
    let load = Load::on(gateway.address());
    let mut open = tunnels(&gateway, 8).await;
    for _ in 0..2 {
        let asked = cluster.watched().await;
        cluster.kill(asked);
        cluster.register("y", two.address).await;
        leads_to(&gateway, &[one.address, two.address]).await;
        assert_ne!(cluster.watched().await, asked);
        cluster.start_again(asked).await;
        cluster.remove("y").await;
        leads_to(&gateway, &[one.address]).await;
    }
    load.nobody_noticed(&gateway, &mut open).await;
}

#[tokio::test]
async fn a_server_that_is_cut_off_from_the_others_is_left_for_one_that_is_not() {
    let [one, two] = backends().await;
    let cluster = EtcdCluster::start().await;
    cluster.register("x", one.address).await;
    let gateway = started(&cluster.urls(), "").await;
    leads_to(&gateway, &[one.address]).await;
    let load = Load::on(gateway.address());
    let mut open = tunnels(&gateway, 8).await;
    let asked = cluster.watched().await;
    // It goes on to answer clients: they may connect, and watch, and hear of nothing.
    cluster.set_apart(asked).await;
    cluster.register("y", two.address).await;
    leads_to(&gateway, &[one.address, two.address]).await;
    assert_ne!(cluster.watched().await, asked);
    cluster.join();
    cluster.remove("y").await;
    leads_to(&gateway, &[one.address]).await;
    load.nobody_noticed(&gateway, &mut open).await;
}

#[tokio::test]
async fn a_server_without_the_others_changes_nothing_is_told_of_once_and_serves_when_they_are_back() {
    let [one, two] = backends().await;
    let mut cluster = EtcdCluster::start().await;
    cluster.register("x", one.address).await;
    let gateway = started(&cluster.urls(), "").await;
    leads_to(&gateway, &[one.address]).await;
    let load = Load::on(gateway.address());
    let mut open = tunnels(&gateway, 8).await;
    let asked = cluster.watched().await;
    let others: Vec<_> = (0..3).filter(|number| *number != asked).collect();
    others.iter().for_each(|number| cluster.kill(*number));
    gateway.log.find(&[OF_NO_USE]).await;
    // Again and again nobody is of use.
    let errors = of_source("errors_total", "etcd");
    let rounds = async {
        while gateway.metric(&errors).await < 5.0 {
            load.goes_on(10).await;
        }
    };
    within("the servers to be tried again", rounds).await;
    let failed = gateway.metric(&errors).await;
    let told = gateway.log.count(&[OF_NO_USE]);
    assert!((told as f64) < failed, "told {told} times of {failed} failures");
    leads_to(&gateway, &[one.address]).await;
    for number in others {
        cluster.start_again(number).await;
    }
    gateway.log.find(&[AGAIN]).await;
    cluster.register("y", two.address).await;
    leads_to(&gateway, &[one.address, two.address]).await;
    load.nobody_noticed(&gateway, &mut open).await;
}

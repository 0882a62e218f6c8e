//! `watch: true`: the file's changes are noticed, however they are made.

use std::fs;
use std::os::unix::fs::FileExt;

use crate::subject::{Subject, named, upstreams, whole};

#[tokio::test]
async fn every_way_of_changing_the_file_is_noticed() {
    let backends = [named().await, named().await, named().await, named().await];
    let with = |number: usize| {
        format!("watch: true\n{}", upstreams(&[("a", &format!("backends: [{}]", backends[number].address))]))
    };
    let mut subject = Subject::start(&with(0)).await;
    let file = subject.file();
    let beside = subject.gateway.dir.path().join(".longhaul.yaml.swp");

    // In place, by one write: a file that is empty in between can be read so.
    let text = whole(&with(1)).replace("{dir}", subject.gateway.dir.path().to_str().unwrap());
    let in_place = fs::OpenOptions::new().write(true).open(&file).unwrap();
    in_place.write_all_at(text.as_bytes(), 0).unwrap();
    in_place.set_len(u64::try_from(text.len()).unwrap()).unwrap();
    subject.reloaded().await;
    assert_eq!(subject.backend_of("/a").await, backends[1].address);

    // As editors do: written beside it, then renamed over it.
    subject.write_at(&beside, &whole(&with(2)));
    fs::rename(&beside, &file).unwrap();
    subject.reloaded().await;
    assert_eq!(subject.backend_of("/a").await, backends[2].address);

    // As other editors do: moved away, and there anew.
    let anew = subject.gateway.dir.path().join("anew");
    subject.write_at(&anew, &whole(&with(3)));
    fs::rename(&file, &beside).unwrap();
    fs::rename(&anew, &file).unwrap();
    subject.reloaded().await;
    assert_eq!(subject.backend_of("/a").await, backends[3].address);

    // As configuration maps do: a link whose target is replaced.
    let (old, new) = (subject.gateway.dir.path().join("old"), subject.gateway.dir.path().join("new"));
    subject.write_at(&old, &whole(&with(0)));
    subject.write_at(&new, &whole(&with(1)));
    for (target, number) in [(&old, 0), (&new, 1)] {
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(target, &file).unwrap();
        subject.reloaded().await;
        assert_eq!(subject.backend_of("/a").await, backends[number].address);
    }
    assert_eq!(subject.gateway.log.count(&["the reload is refused"]), 0, "no half-made state was read");
}

#[tokio::test]
async fn a_bad_file_is_refused_and_the_next_good_one_is_taken() {
    let (one, two) = (named().await, named().await);
    let with = |address| format!("watch: true\n{}", upstreams(&[("a", &format!("backends: [{address}]"))]));
    let mut subject = Subject::start(&with(one.address)).await;
    subject.write("nonsense: true\n");
    subject.gateway.log.find(&["the reload is refused"]).await;
    assert_eq!(subject.backend_of("/a").await, one.address);
    subject.write(&with(two.address));
    subject.reloaded().await;
    assert_eq!(subject.backend_of("/a").await, two.address);
}

#[tokio::test]
async fn watching_can_be_turned_on_and_off_by_a_reload() {
    let (one, two) = (named().await, named().await);
    let with =
        |watch: bool, address| format!("watch: {watch}\n{}", upstreams(&[("a", &format!("backends: [{address}]"))]));
    let mut subject = Subject::start(&with(false, one.address)).await;
    let line = subject.reload(&with(true, one.address)).await;
    assert!(line.contains("watch changed"), "{line}");
    subject.write(&with(false, two.address));
    subject.gateway.log.find(&["the configuration file has changed"]).await;
    subject.reloaded().await;
    assert_eq!(subject.backend_of("/a").await, two.address);
}

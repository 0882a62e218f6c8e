//! What the control socket's place in the file system promises.

use std::os::unix::fs::symlink;

use super::*;

fn place(folder: &Path) -> Place {
    Place::Named(folder.join("control.sock"))
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

#[tokio::test]
async fn the_socket_and_a_folder_made_for_it_are_ours_alone() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("run");
    let socket = Socket::bind(&place(&folder)).unwrap();
    assert_eq!((mode(&folder), mode(socket.path())), (0o700, 0o600));
    assert!(UnixStream::connect(socket.path()).is_ok());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    drop(socket);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[tokio::test]
async fn a_folder_that_others_may_write_to_is_refused() {
    let home = tempfile::tempdir().unwrap();
    for mode in [0o720, 0o702, 0o777, 0o1777] {
        fs::set_permissions(home.path(), Permissions::from_mode(mode)).unwrap();
        let error = Socket::bind(&place(home.path())).unwrap_err();
        assert!(matches!(error, SocketError::Folder { .. }), "{mode:o}: {error}");
    }
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    Socket::bind(&place(home.path())).unwrap();
}

#[tokio::test]
async fn a_folder_of_another_user_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let metadata = fs::metadata(home.path()).unwrap();
    let somebody = metadata.uid() + 1;
    let refused = wrong_with(&metadata, somebody);
    // Root's folders are nobody's risk.
    assert_eq!(refused.is_some(), metadata.uid() != 0);
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let home = tempfile::tempdir().unwrap();
    let place = place(home.path());
    drop(std::os::unix::net::UnixListener::bind(place.path()).unwrap());
    assert!(UnixStream::connect(place.path()).is_err());
    let socket = Socket::bind(&place).unwrap();
    assert!(matches!(Socket::bind(&place), Err(SocketError::InUse(_))));
    assert!(UnixStream::connect(place.path()).is_ok());
    drop(socket);
}

#[tokio::test]
async fn a_successor_may_take_the_place_and_keeps_it() {
    let home = tempfile::tempdir().unwrap();
    let place = place(home.path());
    let old = Socket::bind(&place).unwrap();
    let new = Socket::replace(&place).unwrap();
    drop(old);
    let connected = UnixStream::connect(place.path());
    assert!(connected.is_ok());
    assert!(new.listener().accept().await.is_ok());
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let place = place(home.path());
    fs::write(place.path(), "precious").unwrap();
    assert!(matches!(Socket::bind(&place), Err(SocketError::NoSocket(_))));
    assert_eq!(fs::read_to_string(place.path()).unwrap(), "precious");

    fs::remove_file(place.path()).unwrap();
    symlink("elsewhere", place.path()).unwrap();
    assert!(matches!(Socket::bind(&place), Err(SocketError::NoSocket(_))));
}

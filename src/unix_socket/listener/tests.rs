//! Promises of a Unix socket about its file, its folder and other gateways.

use std::os::unix::fs::symlink;

use super::*;

fn socket_path(folder: &Path) -> SocketPath {
    SocketPath::Named(folder.join("control.sock"))
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

#[tokio::test]
async fn the_socket_and_a_folder_made_for_it_are_ours_alone() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("run");
    let socket = UnixSocketListener::bind(&socket_path(&folder)).unwrap();
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
        let error = UnixSocketListener::bind(&socket_path(home.path())).unwrap_err();
        assert!(matches!(error, ListenError::Folder { .. }), "{mode:o}: {error}");
    }
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    UnixSocketListener::bind(&socket_path(home.path())).unwrap();
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
    let at = socket_path(home.path());
    drop(std::os::unix::net::UnixListener::bind(at.path()).unwrap());
    assert!(UnixStream::connect(at.path()).is_err());
    let socket = UnixSocketListener::bind(&at).unwrap();
    assert!(matches!(UnixSocketListener::bind(&at), Err(ListenError::InUse(_))));
    assert!(UnixStream::connect(at.path()).is_ok());
    drop(socket);
}

#[tokio::test]
async fn a_successor_may_take_the_path_and_keeps_it() {
    let home = tempfile::tempdir().unwrap();
    let at = socket_path(home.path());
    let old = UnixSocketListener::bind(&at).unwrap();
    let new = UnixSocketListener::replace(&at).unwrap();
    drop(old);
    let connected = UnixStream::connect(at.path());
    assert!(connected.is_ok());
    assert!(new.socket().accept().await.is_ok());
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let at = socket_path(home.path());
    fs::write(at.path(), "precious").unwrap();
    assert!(matches!(UnixSocketListener::bind(&at), Err(ListenError::NoSocket(_))));
    assert_eq!(fs::read_to_string(at.path()).unwrap(), "precious");

    fs::remove_file(at.path()).unwrap();
    symlink("elsewhere", at.path()).unwrap();
    assert!(matches!(UnixSocketListener::bind(&at), Err(ListenError::NoSocket(_))));
}

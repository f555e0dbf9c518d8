//! Whom a program runs as: `USER[:GROUP]`, by number or by a name that the image's own files know.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use shim::sys::fd::open_in_root;

/// The most of such a file that is read, in bytes.
const MOST: u64 = 1 << 20;

/// A user by numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// More groups.
    pub groups: Vec<u32>,
}

impl User {
    /// Reads `word`, which is empty for root. Names are looked up in the rootfs `root`, if there is
    /// one.
    pub fn find(word: &str, root: Option<BorrowedFd<'_>>) -> Result<Self> {
        if word.is_empty() {
            return Ok(Self::default());
        }
        let (user, group) = match word.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (word, None),
        };
        let passwd = read(root, "/etc/passwd")?;
        let known = lines(&passwd)
            .find(|fields| fields.first() == Some(&user) || fields.get(2) == Some(&user));
        let number = |at: usize| known.as_ref()?.get(at)?.parse().ok();
        let uid = user.parse().ok().or_else(|| number(2)).or((user == "root").then_some(0));
        let uid = uid.with_context(|| {
            format!("there is no user {user:?} in /etc/passwd of the image; give a number")
        })?;
        let groups = read(root, "/etc/group")?;
        if let Some(group) = group {
            let named = lines(&groups).find(|fields| fields.first() == Some(&group));
            let gid = group.parse().ok().or_else(|| named?.get(2)?.parse().ok());
            let gid = gid.with_context(|| {
                format!("there is no group {group:?} in /etc/group of the image; give a number")
            })?;
            return Ok(Self { uid, gid, groups: Vec::new() });
        }
        let gid = number(3).unwrap_or(0);
        let name = known.as_ref().and_then(|fields| fields.first().copied());
        let is_in = |fields: &Vec<&str>| {
            let members = fields.get(3).copied().unwrap_or_default();
            name.is_some_and(|name| members.split(',').any(|member| member == name))
        };
        let more = lines(&groups).filter(is_in);
        let more =
            more.filter_map(|fields| fields.get(2)?.parse().ok()).filter(|more| *more != gid);
        Ok(Self { uid, gid, groups: more.collect() })
    }
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.trim_end().split(':').collect())
}

/// Nothing for a file that is not there.
fn read(root: Option<BorrowedFd<'_>>, path: &str) -> Result<String> {
    let Some(root) = root else { return Ok(String::new()) };
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let Ok(file) = open_in_root(root.as_fd(), Path::new(path), flags) else {
        return Ok(String::new());
    };
    let file = File::from(file);
    ensure!(file.metadata()?.is_file(), "{path} of the image is no file");
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).with_context(|| format!("cannot read {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn users_are_numbers_or_names_of_the_image() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:::\napp:x:1000:100:App:/home/app:/bin/sh\n";
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        fs::write(dir.path().join("etc/group"), "users:x:100:\nextra:x:7:x,app\n").unwrap();
        let root = File::open(dir.path()).unwrap();
        let find = |word| User::find(word, Some(root.as_fd()));
        let is = |word, uid, gid, groups: &[u32]| {
            assert_eq!(find(word).unwrap(), User { uid, gid, groups: groups.into() }, "{word}");
        };
        is("", 0, 0, &[]);
        is("app", 1000, 100, &[7]);
        is("1000", 1000, 100, &[7]);
        is("1234", 1234, 0, &[]);
        is("app:extra", 1000, 7, &[]);
        is("5:6", 5, 6, &[]);
        for wrong in ["nobody", "app:none", "-1", "4294967296"] {
            assert!(find(wrong).is_err(), "{wrong}");
        }
        assert_eq!(User::find("root", None).unwrap(), User::default());
        assert!(User::find("app", None).is_err());
    }
}

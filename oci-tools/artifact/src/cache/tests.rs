use super::*;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

fn fresh() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().unwrap();
    let cache = open(&dir.path().join("code"), Tier::Optimized).unwrap();
    (dir, cache)
}

fn open(root: &Path, tier: Tier) -> Result<Cache, Error> {
    let engine = Compatibility::of(&crate::engine::engine(Tier::Optimized).unwrap());
    Cache::open(root, &engine, tier)
}

/// A cache at the same place as `cache`, of an engine that is not this one.
fn other(cache: &Cache) -> Cache {
    let name = cache.engine.to_string();
    let (_, format) = name.split_once('-').unwrap();
    let engine = Compatibility::parse(&format!("{:016x}-{format}", 7)).unwrap();
    Cache::open(&cache.root, &engine, Tier::Optimized).unwrap()
}

fn put(cache: &Cache, name: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::of(name.as_bytes());
    let lock = cache.lock(&digest).unwrap();
    cache.put(&digest, &lock, |mut f| f.write_all(bytes).map_err(at(Path::new(name)))).unwrap();
    digest
}

#[test]
fn an_entry_is_there_after_it_was_put_and_nothing_else_is() {
    let (_dir, cache) = fresh();
    let digest = put(&cache, "a", b"code");
    assert!(cache.get(&digest).unwrap().is_some());
    assert!(cache.get(&Digest::of(b"other")).unwrap().is_none());
    assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 1);
}

#[test]
fn a_failed_write_leaves_nothing() {
    let (_dir, cache) = fresh();
    let digest = Digest::of(b"a");
    let lock = cache.lock(&digest).unwrap();
    let full = || at(Path::new("x"))(io::Error::from(io::ErrorKind::StorageFull));
    let made: Result<_, Error> = cache.put(&digest, &lock, |_| Err(full()));
    made.unwrap_err();
    drop(lock);
    assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 0);
}

#[test]
fn an_entry_that_others_can_write_is_not_used_again() {
    let (_dir, cache) = fresh();
    let digest = put(&cache, "a", b"code");
    fs::set_permissions(cache.entry(&digest), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(cache.get(&digest).unwrap().is_none());
    assert!(!cache.entry(&digest).exists());
}

#[test]
fn a_folder_that_others_can_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let error = open(dir.path(), Tier::Optimized).unwrap_err().to_string();
    assert!(error.contains("plant native code"), "{error}");
}

#[test]
fn eviction_removes_what_was_used_longest_ago() {
    let (_dir, cache) = fresh();
    let old = put(&cache, "old", &[0; 100]);
    let new = put(&cache, "new", &[0; 100]);
    let long_ago = SystemTime::UNIX_EPOCH;
    File::open(cache.entry(&old)).unwrap().set_modified(long_ago).unwrap();
    cache.evict(300).unwrap();
    assert!(cache.get(&old).unwrap().is_none());
    assert!(cache.get(&new).unwrap().is_some());
}

#[test]
fn eviction_weighs_both_tiers_together() {
    let (dir, optimized) = fresh();
    let baseline = open(&dir.path().join("code"), Tier::Baseline).unwrap();
    let digest = put(&baseline, "a", &[0; 100]);
    assert!(optimized.get(&digest).unwrap().is_none(), "tiers share no entries");
    put(&optimized, "a", &[0; 100]);
    File::open(baseline.entry(&digest)).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    optimized.evict(300).unwrap();
    assert!(baseline.get(&digest).unwrap().is_none());
    assert!(optimized.get(&digest).unwrap().is_some());
}

#[test]
fn a_note_holds_for_its_time_or_until_the_entry_is_there_after_all() {
    let (_dir, cache) = fresh();
    let digest = Digest::of(b"a");
    assert_eq!(cache.note(&digest), None);
    cache.set_note(&digest, "too big", Duration::from_secs(60)).unwrap();
    assert_eq!(cache.note(&digest).unwrap(), "too big");
    cache.evict(0).unwrap();
    assert_eq!(cache.note(&digest).unwrap(), "too big");
    for wrong in [SystemTime::now(), SystemTime::now() + 2 * MAX_NOTE.1] {
        File::open(cache.note_file(&digest)).unwrap().set_modified(wrong).unwrap();
        assert_eq!(cache.note(&digest), None);
    }
    cache.evict(0).unwrap();
    assert!(!cache.note_file(&digest).exists());
    cache.set_note(&digest, "too big", Duration::from_secs(60)).unwrap();
    put(&cache, "a", b"code");
    assert_eq!(cache.note(&digest), None);
}

#[test]
fn a_module_has_one_place_in_the_queue() {
    let (_dir, cache) = fresh();
    assert!(cache.ticket(&Digest::of(b"a")).unwrap().is_none(), "there is no entry");
    let digest = put(&cache, "a", b"code");
    let held = cache.ticket(&digest).unwrap().unwrap();
    assert!(cache.ticket(&digest).unwrap().is_none());
    drop(held);
    assert!(cache.ticket(&digest).unwrap().is_some());
}

#[test]
fn one_of_many_makers_makes_the_entry() {
    let (_dir, cache) = fresh();
    let digest = Digest::of(b"a");
    let made = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let lock = cache.lock(&digest).unwrap();
                if cache.get(&digest).unwrap().is_none() {
                    made.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    cache.put(&digest, &lock, |_| Ok::<_, Error>(())).unwrap();
                }
            });
        }
    });
    assert_eq!(made.into_inner(), 1);
}

fn not_used_for(cache: &Cache, digest: &Digest, ago: Duration) {
    let file = File::open(cache.entry(digest)).unwrap();
    file.set_modified(SystemTime::now() - ago).unwrap();
}

#[test]
fn an_entry_that_a_power_loss_tore_is_made_again() {
    let (_dir, cache) = fresh();
    for (kept, zeros) in [(0, 0), (2, 0), (1000, 0), (0, 1000), (500, 500), (1100, 32)] {
        let digest = put(&cache, "a", &[1; 1000]);
        let mut whole = fs::read(cache.entry(&digest)).unwrap();
        whole.truncate(kept);
        whole.resize(kept + zeros, 0);
        fs::write(cache.entry(&digest), whole).unwrap();
        assert!(cache.get(&digest).unwrap().is_none(), "{kept} bytes and {zeros} zeros");
        assert!(!cache.entry(&digest).exists());
    }
}

#[test]
fn an_entry_larger_than_the_bound_is_there_for_who_made_it() {
    let (_dir, cache) = fresh();
    let small = put(&cache, "small", &[0; 10]);
    not_used_for(&cache, &small, Duration::from_secs(1));
    let large = put(&cache, "large", &[0; 1000]);
    cache.evict(100).unwrap();
    assert!(cache.get(&small).unwrap().is_none());
    assert!(cache.get(&large).unwrap().is_some());
}

#[test]
fn entries_of_another_engine_go_once_they_were_not_used_for_long() {
    let (_dir, cache) = fresh();
    let others = other(&cache);
    let (old, young) = (put(&others, "old", b"code"), put(&others, "young", b"code"));
    let own = put(&cache, "own", b"code");
    not_used_for(&others, &old, OTHERS_UNUSED);
    not_used_for(&others, &young, OTHERS_UNUSED / 2);
    not_used_for(&cache, &own, 2 * OTHERS_UNUSED);
    cache.evict(u64::MAX).unwrap();
    assert!(others.get(&old).unwrap().is_none());
    assert!(others.get(&young).unwrap().is_some());
    assert!(cache.get(&own).unwrap().is_some());
}

#[test]
fn the_engine_of_the_last_maker_is_known() {
    let (dir, cache) = fresh();
    assert_eq!(current(&cache.root), None);
    put(&other(&cache), "a", b"code");
    assert_eq!(current(&cache.root), Some(other(&cache).engine));
    put(&cache, "a", b"code");
    assert_eq!(current(&cache.root), Some(cache.engine.clone()));
    fs::write(dir.path().join("code/current"), "../../etc").unwrap();
    assert_eq!(current(&cache.root), None);
}

#[test]
fn what_killed_makers_left_goes_and_what_living_ones_hold_stays() {
    let (_dir, cache) = fresh();
    let dead = [
        cache.dir.join(format!("{}.new", Digest::of(b"dead"))),
        cache.dir.join(format!("{}.lock", Digest::of(b"dead"))),
        cache.dir.join("background.new"),
    ];
    let (digest, turn) = (Digest::of(b"alive"), cache.turn().unwrap());
    let lock = cache.lock(&digest).unwrap();
    cache
        .put(&digest, &lock, |mut file| {
            for path in &dead {
                fs::write(path, b"half").unwrap();
            }
            file.write_all(b"code").unwrap();
            let removed = collect(&cache.root, &Collection::default())?;
            assert_eq!((removed.entries, removed.leftovers), (0, 2));
            assert!(dead[2].exists(), "somebody has the turn of the background");
            Ok::<_, Error>(())
        })
        .unwrap();
    drop((turn, lock));
    assert!(cache.get(&digest).unwrap().is_some());
    assert_eq!(collect(&cache.root, &Collection::default()).unwrap().leftovers, 1);
    assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 1);
}

#[test]
fn a_look_at_all_finds_what_is_not_as_it_was_made() {
    let (_dir, cache) = fresh();
    let [good, flipped, torn, theirs] = ["good", "flipped", "torn", "theirs"]
        .map(|name| put(&cache, name, &[b"code and ", name.as_bytes()].concat()));
    let health = |digest: &Digest| {
        let all = entries(&cache.root).unwrap();
        all.iter().find(|entry| entry.digest == *digest).unwrap().check().unwrap().unwrap()
    };
    let mut bytes = fs::read(cache.entry(&flipped)).unwrap();
    bytes[3] ^= 1;
    fs::write(cache.entry(&flipped), bytes).unwrap();
    fs::write(cache.entry(&torn), b"code").unwrap();
    fs::set_permissions(cache.entry(&theirs), fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(health(&good), Health::Whole);
    assert_eq!(health(&flipped), Health::Damaged("its content is not what was made"));
    assert!(matches!(health(&torn), Health::Damaged(why) if why.contains("seal")));
    assert!(matches!(health(&theirs), Health::Damaged(why) if why.contains("others")));
    // The first format of the cache had no seals.
    let before = cache.root.join("0123456789abcdef-1");
    fs::create_dir(&before).unwrap();
    let old = Digest::of(b"old");
    fs::write(before.join(format!("{old}.cwasm")), b"code").unwrap();
    assert_eq!(health(&old), Health::Unsealed);
}

#[test]
fn a_place_without_a_cache_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(entries(&dir.path().join("nowhere")).unwrap().is_empty());
    let removed = collect(&dir.path().join("nowhere"), &Collection::default()).unwrap();
    assert_eq!(removed, Removed::default());
}

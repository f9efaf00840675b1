//! What reads the documents and objects of a store.

use super::*;

fn cluster() -> ClusterName {
    "prod".parse().unwrap()
}

pub fn manifest(input: &[u8]) {
    let Ok(manifest) = Manifest::from_bytes(input) else {
        return;
    };
    signer_of(&cluster(), &manifest.name(), input);
    manifest.doubt();
    manifest.slot_path();
    Manifest::read(&manifest.chain_path(), manifest.to_revision, input).ok();
    // What is written of it is understood the same.
    let again = Manifest::from_bytes(&manifest.to_bytes()).unwrap();
    assert_eq!(again.to_bytes(), manifest.to_bytes());
}

pub fn documents(input: &[u8]) {
    if let Ok(check) = Check::from_bytes(input) {
        Check::from_bytes(&check.to_bytes()).unwrap();
    }
    if let Ok(acceptance) = Acceptance::from_bytes(input) {
        Acceptance::from_bytes(&acceptance.to_bytes()).unwrap();
    }
    if let Ok(claim) = Claim::from_bytes(input) {
        Claim::from_bytes(&claim.to_bytes()).unwrap();
    }
    signer_of(&cluster(), &ObjectName::Acceptance(1), input);
}

static ROOT: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::of_seed(Role::Root, [7; 32]));

pub fn signers() -> Vec<Vec<u8>> {
    let key = SigningKey::of_seed(Role::Signer, [9; 32]).public();
    let host = Signer {
        key,
        name: Some("etcd-1".to_owned()),
    };
    vec![serde_json::to_vec(&Roll::new(3, Timestamp::UNIX_EPOCH, vec![host])).unwrap()]
}

/// As if the root had signed it, and as it is.
pub fn roll(input: &[u8]) {
    let roots = BTreeSet::from([ROOT.public()]);
    Roll::read(&cluster(), &roots, input).ok();
    let signed = ROOT.sign(&cluster(), &ObjectName::Signers, input);
    if let Ok(roll) = Roll::read(&cluster(), &roots, &signed) {
        roll.keys().count();
    }
}

pub fn names() -> Vec<Vec<u8>> {
    let chain = "cdf8/20261120T101530Z-9f3c4a1b";
    [
        format!("{chain}/full.db.zst.age"),
        format!("{chain}/full-00000000000000004711.json"),
        format!("{chain}/pin.json"),
        format!("{chain}/checks/20261121T000000Z-etcd-1.json"),
        "slots/hourly/20261120T100000Z.1.json".to_owned(),
        "lineages/00000001.json".to_owned(),
        "store.json".to_owned(),
        "canary/etcd-1".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

pub fn object_name(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    drop(Listed::file(&text));
    if let Ok(name) = text.parse::<ObjectName>() {
        assert_eq!(name.to_string(), text, "a name is written in one way only");
    }
}

static KEYS: LazyLock<Identities> = LazyLock::new(|| {
    let identity = IDENTITY_FILE.clone();
    match Identities::parse(identity.as_bytes(), "it") {
        Ok(keys) => keys,
        Err(error) => panic!("{error}"),
    }
});

/// An identity of this run, made by the library that reads it.
static IDENTITY_FILE: LazyLock<String> = LazyLock::new(|| {
    use age::secrecy::ExposeSecret;
    age::x25519::Identity::generate().to_string().expose_secret().to_owned()
});

pub fn objects() -> Vec<Vec<u8>> {
    let identity: age::x25519::Identity = IDENTITY_FILE.parse().unwrap();
    let sealed = |plain: &[u8]| age::encrypt(&identity.to_public(), plain).unwrap();
    let zstd = |plain: &[u8]| zstd::encode_all(plain, 3).unwrap();
    let database = &fixtures(&["etcd-3.4.23-rev6.snap"])[0];
    vec![
        sealed(&zstd(database)),
        sealed(&zstd(b"")),
        sealed(database),
        sealed(&[zstd(b"one"), zstd(b"two")].concat()),
    ]
}

/// What a stored object has inside.
static INSIDE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let database = fixtures(&["etcd-3.4.23-rev6.snap"]).swap_remove(0);
    zstd::encode_all(&database[..], 3).unwrap()
});

/// As it is stored, and as what is inside: whoever knows the recipients can encrypt anything to them.
pub fn object(input: &[u8]) {
    let open = |stored: Vec<u8>| {
        let Ok(mut decoded) = decode(io::Cursor::new(stored), Unlock::stored(&KEYS)) else {
            return;
        };
        let (mut block, mut bytes) = (Vec::new(), 0_u64);
        while matches!(decoded.next_block(&mut block), Ok(true)) && bytes < 8 << 20 {
            bytes += block.len() as u64;
        }
    };
    open(input.to_vec());
    let identity: age::x25519::Identity = IDENTITY_FILE.parse().unwrap();
    let mut inside = INSIDE.clone();
    for (at, byte) in input.iter().rev().take(32).enumerate() {
        let place = usize::from(*byte) * 7 % inside.len();
        inside[place] ^= input[at];
    }
    open(age::encrypt(&identity.to_public(), &inside).unwrap());
}

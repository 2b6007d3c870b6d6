//! A cluster whose addresses all change, as pods do that are scheduled anew: the contact point's name is all that stays.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::ensure;

use crate::support::{CASSANDRA, Lab, eventually, message};

crate::trials!(a_running_ingest_finds_the_cluster_at_its_new_address);

/// 2026-11-01T00:00:00Z.
const START: i64 = 1_793_491_200_000;

/// The cluster at another address, until it is closed.
struct Forwarded {
    is_open: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    address: String,
}

impl Forwarded {
    fn open(address: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?.to_string();
        let (is_open, streams) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (open, all) = (is_open.clone(), streams.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if !open.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(CASSANDRA) else { continue };
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { continue };
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                all.lock().expect("no panic while locked").extend([client, server]);
            }
        });
        Ok(Self { is_open, streams, address })
    }

    /// Ends every connection, and refuses new ones.
    fn close(self) {
        self.is_open.store(false, Ordering::SeqCst);
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(&self.address);
        for stream in self.streams.lock().expect("no panic while locked").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A free port of an address.
fn free(ip: &str) -> anyhow::Result<String> {
    Ok(TcpListener::bind((ip, 0))?.local_addr()?.to_string())
}

fn a_running_ingest_finds_the_cluster_at_its_new_address() -> anyhow::Result<()> {
    let mut lab = Lab::new("moved")?;
    let before = Forwarded::open("127.0.43.1:0")?;
    let after = free("127.0.43.2")?;
    lab.set("IOTCTL_CASSANDRA_CONTACT_POINTS", &format!("{},{after}", before.address));
    let reading = |n: u32| message("plant-1", n.into(), START + i64::from(n) * 1000, r#","temperature":1"#);
    lab.send((0..100).map(reading))?;
    let ingest = lab.spawn("-q ingest")?;
    let all_stored = |count: i64| move |lab: &Lab| Ok(lab.stored()? == count);
    eventually("the first readings are stored", Duration::from_secs(60), || all_stored(100)(&lab))?;

    before.close();
    lab.send((100..200).map(reading))?;
    // The node is gone, and what is sent waits.
    thread::sleep(Duration::from_secs(3));
    ensure!(lab.stored()? == 100, "the rows got past a closed address");
    let now = Forwarded::open(&after)?;
    eventually("ingest goes on at the new address", Duration::from_secs(60), || all_stored(200)(&lab))?;
    drop(ingest);
    now.close();
    Ok(())
}

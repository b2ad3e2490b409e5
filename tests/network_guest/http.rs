//! A web server in the client's namespace: the files of a folder, and what was asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::namespaces::{CLIENT, Network};

/// Bytes that each file was served with.
pub type Served = Arc<Mutex<BTreeMap<String, usize>>>;

/// Serves a folder's files by HTTP for as long as the process lives.
pub fn serve(network: &Network, port: u16, folder: &Path) -> Served {
    let listen = move || TcpListener::bind((CLIENT, port)).expect("a port");
    let listener = network.within("client", listen).join().expect("no panic");
    let folder: PathBuf = folder.to_owned();
    let served = Served::default();
    let seen = Arc::clone(&served);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (folder, seen) = (folder.clone(), Arc::clone(&seen));
            std::thread::spawn(move || answer(stream, &folder, &seen));
        }
    });
    served
}

/// Answers one request after the other.
fn answer(stream: TcpStream, folder: &Path, served: &Served) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut request = String::new();
        reader.read_line(&mut request).ok().filter(|length| *length > 0)?;
        let mut line = String::new();
        while reader.read_line(&mut line).ok().filter(|length| *length > 0)? > 2 {
            line.clear();
        }
        let name = decoded(request.split(' ').nth(1)?.trim_start_matches(['/', '.']));
        let bytes = fs::read(folder.join(&name)).ok().filter(|_| !name.contains('/'));
        let status = if bytes.is_some() { "200 OK" } else { "404 Not Found" };
        let bytes = bytes.unwrap_or_default();
        write!(&stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", bytes.len()).ok()?;
        (&stream).write_all(&bytes).ok()?;
        *served.lock().expect("no panic").entry(name).or_default() += bytes.len();
    }
}

/// A path of a URL, with its bytes that were written in hexadecimal (apt does that with `+`).
fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(byte) => name.extend([char::from(byte).to_string().as_str(), &part[2..]]),
            None => name.extend(["%", part]),
        }
    }
    name
}

//! A command under `strace`, and what its calls did to the folder that is watched.
//!
//! Whatever could change a file and is not understood here is an error: a recording that misses a change would
//! explore states that cannot be.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    process::Command,
    sync::Arc,
};

use super::{
    calls::{Arg, Call},
    disk::{Change, Disk, Entry, Event, Inode, Kind, ROOT, Timed, Told},
};

use crate::servers::held::Wire;

/// All calls that can change a file, a name or a descriptor.
const WATCHED: &str = "open,openat,openat2,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,fallocate,\
    rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,mknod,mknodat,\
    fsync,fdatasync,sync,syncfs,sync_file_range,msync,close,close_range,dup,dup2,dup3,fcntl,lseek,read,\
    copy_file_range,sendfile,splice,mmap,bind,sendto,recvfrom,chdir,fchdir,ioctl,io_uring_setup,io_submit,fork,vfork,clone,clone3";

/// The command, under strace, which writes to `trace`.
pub fn traced(command: &Command, trace: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-xx", "-s", "100000000", "-e", "signal=none", "-e"]).arg(format!("trace={WATCHED}"));
    strace.arg("-o").arg(trace).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => strace.env(name, value),
            None => strace.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        strace.current_dir(folder);
    }
    strace
}

/// Why no process can be traced here, if so.
pub fn cannot_trace() -> Option<String> {
    match Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("strace cannot trace: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("strace cannot be started: {error}")),
    }
}

/// An open descriptor on something in the watched folder.
#[derive(Debug, Clone)]
struct Open {
    inode: Inode,
    offset: usize,
    append: bool,
}

/// Follows processes, one after the other, over one disk.
pub struct Recorder<'a> {
    pub disk: Disk,
    /// The watched folder, absolute; also where the commands run.
    root: &'a str,
    /// Names of the top of it that are none of the disk's: the input.
    apart: &'a [&'a str],
    names: HashMap<Inode, BTreeMap<String, Inode>>,
    lengths: HashMap<Inode, usize>,
    open: HashMap<i64, Open>,
    /// Lines of earlier traces.
    lines: usize,
    /// How transactions of a server show, where there is one.
    pub wire: Option<Wire>,
}

/// What a path of the watched folder leads to.
struct Place {
    folder: Inode,
    name: String,
    inode: Option<Inode>,
}

impl<'a> Recorder<'a> {
    pub fn new(disk: Disk, root: &'a str, apart: &'a [&'a str]) -> Recorder<'a> {
        let names = disk.names();
        let files = names.values().flat_map(BTreeMap::values).map(|inode| (*inode, disk.content(*inode).len()));
        let lengths = files.collect();
        Recorder { disk, root, apart, names, lengths, open: HashMap::new(), lines: 0, wire: None }
    }

    /// Follows one more process; `lines` is the length of its trace.
    ///
    /// # Errors
    /// Where a call is not understood.
    pub fn follow(&mut self, calls: &[Call], lines: usize) -> Result<(), String> {
        self.open.clear();
        for call in calls {
            if call.result >= 0 {
                self.call(call).map_err(|why| format!("line {}: {}: {why}", call.ended + 1, call.name))?;
            }
        }
        self.lines += lines;
        Ok(())
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        match call.name.as_str() {
            "open" => self.opened(call, 0),
            "openat" => self.opened(call, 1),
            "write" | "pwrite64" => self.written(call),
            "ftruncate" => self.resized(call),
            "rename" => self.renamed(call, (0, None), (1, None)),
            "renameat" | "renameat2" => self.renamed(call, (1, Some(0)), (3, Some(2))),
            "unlink" | "rmdir" => self.unlinked(call, 0, None),
            "unlinkat" => self.unlinked(call, 1, Some(0)),
            "mkdir" => self.linked(call, 0, None, Kind::Folder),
            "mkdirat" => self.linked(call, 1, Some(0), Kind::Folder),
            "bind" => self.bound(call),
            "fsync" | "fdatasync" => self.synced(call),
            "close" => {
                self.open.remove(&call.number(0)?);
                Ok(())
            }
            "lseek" | "read" => self.moved(call),
            "fcntl" if call.plain(1).starts_with("F_DUPFD") => self.duplicated(call, call.result),
            "dup" | "dup2" | "dup3" => self.duplicated(call, call.result),
            "mmap" if call.has(3, "MAP_SHARED") && call.has(2, "PROT_WRITE") => self.untouched(call, 4),
            // no durability at all
            "sync_file_range" | "fcntl" | "mmap" => Ok(()),
            "clone" | "clone3"
                if call.args.iter().any(|arg| matches!(arg, Arg::Plain(text) if text.contains("CLONE_FILES"))) =>
            {
                Ok(())
            }
            "sendto" | "recvfrom" => self.called(call),
            "ioctl" if !call.plain(1).contains("CLONE") => Ok(()),
            // other processes, other ways to write, links: none of it is used, and none of it is modelled
            _ => Err("this call is not understood".to_owned()),
        }
    }

    /// A path's place, where it lies in the watched folder.
    fn place(&self, call: &Call, at: usize, folder_at: Option<usize>) -> Result<Option<Place>, String> {
        let path = call.path(at)?;
        let path = path.trim_end_matches('/');
        let base = folder_at.map(|at| call.plain(at)).filter(|folder| *folder != "AT_FDCWD");
        let (start, relative) = if let Some(in_descriptor) = path.strip_prefix("/proc/self/fd/") {
            let (descriptor, rest) = in_descriptor.split_once('/').unwrap_or((in_descriptor, ""));
            (self.open.get(&descriptor.parse().map_err(|_| "no descriptor")?).map(|open| open.inode), rest)
        } else if path.starts_with('/') {
            let rest = path.strip_prefix(self.root).filter(|rest| rest.is_empty() || rest.starts_with('/'));
            (rest.map(|_| ROOT), rest.unwrap_or_default().trim_start_matches('/'))
        } else if let Some(folder) = base {
            let folder = folder.parse().map_err(|_| format!("'{folder}' is no descriptor"))?;
            (self.open.get(&folder).map(|open| open.inode), path)
        } else {
            (Some(ROOT), path)
        };
        let Some(mut folder) = start else { return Ok(None) };
        let parts: Vec<&str> = relative.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return Err(format!("'{path}' goes up"));
        }
        if folder == ROOT && parts.first().is_some_and(|first| self.apart.contains(first)) {
            return Ok(None);
        }
        let Some((name, parents)) = parts.split_last() else {
            return Ok(Some(Place { folder, name: String::new(), inode: Some(folder) }));
        };
        for parent in parents {
            folder = self.find(folder, parent).ok_or_else(|| format!("'{path}' has no folder '{parent}'"))?;
        }
        Ok(Some(Place { folder, name: (*name).to_owned(), inode: self.find(folder, name) }))
    }

    fn find(&self, folder: Inode, name: &str) -> Option<Inode> {
        self.names.get(&folder)?.get(name).copied()
    }

    fn happened(&mut self, call: &Call, event: Event, about: String) {
        if let Event::Change(change) = &event {
            change.apply_to_names(&mut self.names);
            match change {
                Change::Write { file, offset, bytes } => {
                    let length = self.lengths.entry(*file).or_default();
                    *length = (*length).max(offset + bytes.len());
                }
                Change::Resize { file, length, .. } => {
                    self.lengths.insert(*file, *length);
                }
                _ => {}
            }
        }
        let (began, ended) = (self.lines + call.began, self.lines + call.ended);
        self.disk.events.push(Timed {
            began,
            ended,
            event,
            about: format!("{} {about}", call.name),
            told: Told::default(),
        });
    }

    /// Where an inode is now, for people and for telling what a call belongs to.
    fn path_of(&self, inode: Inode) -> String {
        let mut path = String::new();
        let mut at = inode;
        while at != ROOT {
            let holder = self.names.iter().find_map(|(folder, names)| {
                names.iter().find(|(_, found)| **found == at).map(|(name, _)| (*folder, name))
            });
            let Some((folder, name)) = holder else { return format!("(removed)/{path}") };
            path = if path.is_empty() { name.clone() } else { format!("{name}/{path}") };
            at = folder;
        }
        path
    }

    fn opened(&mut self, call: &Call, at: usize) -> Result<(), String> {
        let flags = at + 1;
        // a file without a name is seen by nobody, before a power loss or after
        if call.has(flags, "O_TMPFILE") {
            return Ok(());
        }
        let Some(place) = self.place(call, at, (at == 1).then_some(0))? else { return Ok(()) };
        let inode = match place.inode {
            Some(inode) => {
                if call.has(flags, "O_TRUNC") && self.lengths.get(&inode).is_some_and(|length| *length > 0) {
                    let cut = Change::Resize { file: inode, length: 0, cuts: true };
                    self.happened(call, Event::Change(cut), format!("(cut) {}", self.path_of(inode)));
                }
                inode
            }
            None if call.has(flags, "O_CREAT") => {
                let inode = self.disk.add(Kind::File);
                self.lengths.insert(inode, 0);
                self.link(call, (place.folder, place.name), inode);
                inode
            }
            None => return Err("a file that nobody made was opened".to_owned()),
        };
        self.open.insert(call.result, Open { inode, offset: 0, append: call.has(flags, "O_APPEND") });
        Ok(())
    }

    fn link(&mut self, call: &Call, entry: Entry, inode: Inode) {
        let about = format!("(new) {}/{}", self.path_of(entry.0), entry.1);
        self.happened(call, Event::Change(Change::Link { entry, inode }), about);
    }

    fn linked(&mut self, call: &Call, at: usize, folder_at: Option<usize>, kind: Kind) -> Result<(), String> {
        let Some(place) = self.place(call, at, folder_at)? else { return Ok(()) };
        let inode = self.disk.add(kind);
        self.link(call, (place.folder, place.name), inode);
        Ok(())
    }

    /// `bind(3, {sa_family=AF_UNIX, sun_path="..."}, 25)`
    fn bound(&mut self, call: &Call) -> Result<(), String> {
        let Some((_, path)) = call.plain(1).split_once("sun_path=\"") else { return Ok(()) };
        let path = path.split('"').next().unwrap_or_default();
        let of_path = super::calls::parse(&format!("0 bind(\"{path}\") = 0"))?.remove(0);
        self.linked(&Call { began: call.began, ended: call.ended, ..of_path }, 0, None, Kind::Socket)
    }

    fn written(&mut self, call: &Call) -> Result<(), String> {
        let descriptor = call.number(0)?;
        let Some(open) = self.open.get_mut(&descriptor) else {
            if [1, 2].contains(&descriptor) {
                let said = String::from_utf8_lossy(call.bytes(1)?).into_owned();
                let about = said.trim_end().to_owned();
                self.happened(call, Event::Said(said), about);
            }
            return Ok(());
        };
        let count = usize::try_from(call.result).expect("it is not negative");
        let bytes: Arc<[u8]> = call.bytes(1)?.get(..count).ok_or("more was written than was given")?.into();
        let file = open.inode;
        let length = self.lengths.get(&file).copied().unwrap_or(0);
        let offset = match call.name.as_str() {
            "pwrite64" => usize::try_from(call.number(3)?).map_err(|_| "a negative offset")?,
            _ if open.append => length,
            _ => open.offset,
        };
        if call.name == "write" {
            open.offset = offset + count;
        }
        let about = format!("{} {offset}+{count}", self.path_of(file));
        self.happened(call, Event::Change(Change::Write { file, offset, bytes }), about);
        Ok(())
    }

    /// What goes to a server, and comes from it.
    fn called(&mut self, call: &Call) -> Result<(), String> {
        let Some(wire) = self.wire else { return Ok(()) };
        let (mark, event) = match call.name.as_str() {
            "sendto" => (wire.asked, Event::Asked),
            _ => (wire.answered, Event::Answered),
        };
        if memchr::memmem::find(call.bytes(1)?, mark).is_some() {
            self.happened(call, event, "the server".to_owned());
        }
        Ok(())
    }

    fn resized(&mut self, call: &Call) -> Result<(), String> {
        let Some(open) = self.open.get(&call.number(0)?) else { return Ok(()) };
        let file = open.inode;
        let length = usize::try_from(call.number(1)?).map_err(|_| "a negative length")?;
        let before = self.lengths.get(&file).copied().unwrap_or(0);
        if length != before {
            let about = format!("{} {before} -> {length}", self.path_of(file));
            self.happened(call, Event::Change(Change::Resize { file, length, cuts: length < before }), about);
        }
        Ok(())
    }

    fn renamed(
        &mut self,
        call: &Call,
        (from, from_folder): (usize, Option<usize>),
        (to, to_folder): (usize, Option<usize>),
    ) -> Result<(), String> {
        if call.has(4, "RENAME_EXCHANGE") {
            return Err("an exchange is not understood".to_owned());
        }
        let (from, to) = match (self.place(call, from, from_folder)?, self.place(call, to, to_folder)?) {
            (Some(from), Some(to)) => (from, to),
            (None, None) => return Ok(()),
            _ => return Err("a file left the watched folder, or came into it".to_owned()),
        };
        let inode = from.inode.ok_or("what was renamed was not there")?;
        let about = format!("{} -> {}/{}", self.path_of(inode), self.path_of(to.folder), to.name);
        let change = Change::Rename { from: (from.folder, from.name), to: (to.folder, to.name), inode };
        self.happened(call, Event::Change(change), about);
        Ok(())
    }

    fn unlinked(&mut self, call: &Call, at: usize, folder_at: Option<usize>) -> Result<(), String> {
        let Some(place) = self.place(call, at, folder_at)? else { return Ok(()) };
        let inode = place.inode.ok_or("what was removed was not there")?;
        let about = self.path_of(inode);
        let change = Change::Unlink { entry: (place.folder, place.name), inode };
        self.happened(call, Event::Change(change), about);
        Ok(())
    }

    fn synced(&mut self, call: &Call) -> Result<(), String> {
        if let Some(open) = self.open.get(&call.number(0)?) {
            let inode = open.inode;
            let about = self.path_of(inode);
            self.happened(call, Event::Sync(inode), about);
        }
        Ok(())
    }

    fn moved(&mut self, call: &Call) -> Result<(), String> {
        if let Some(open) = self.open.get_mut(&call.number(0)?) {
            let to = usize::try_from(call.result).expect("it is not negative");
            open.offset = if call.name == "read" { open.offset + to } else { to };
        }
        Ok(())
    }

    fn duplicated(&mut self, call: &Call, to: i64) -> Result<(), String> {
        match self.open.get(&call.number(0)?).cloned() {
            // a position that two descriptors share is not modelled: writers here have one descriptor each
            Some(open) if self.disk.kind(open.inode) == Kind::File => Err("a file's descriptor was doubled".to_owned()),
            Some(open) => {
                self.open.insert(to, open);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn untouched(&self, call: &Call, descriptor_at: usize) -> Result<(), String> {
        match self.open.contains_key(&call.number(descriptor_at)?) {
            true => Err("a file is written through memory".to_owned()),
            false => Ok(()),
        }
    }
}

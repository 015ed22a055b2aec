//! Histories in files: reads each twice, first for what was sent, then for what was told.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use anyhow::{Context as _, bail};

use super::finding::Report;
use super::record::{Line, Stamped, parse};
use super::{Bounds, Checker};

/// No record is longer: 16 MiB.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// Judges the history in some files, one JSON object a line, each read line by line. All records of one publisher or
/// reader belong into one file.
///
/// # Errors
///
/// When a file cannot be read or a line is no record; the message names both.
pub fn check_files(paths: &[impl AsRef<Path>], bounds: Bounds) -> anyhow::Result<Report> {
    let mut checker = Checker::new(bounds);
    let passes: [fn(&mut Checker, &Stamped); 2] = [Checker::sent, Checker::told];
    for pass in passes {
        for (file, path) in paths.iter().enumerate() {
            let path = path.as_ref();
            let file = u32::try_from(file).context("too many files")?;
            read(path, file, |record| pass(&mut checker, record))
                .with_context(|| path.display().to_string())?;
        }
    }
    Ok(checker.finish())
}

fn read(path: &Path, file: u32, mut take: impl FnMut(&Stamped)) -> anyhow::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).context("cannot be opened")?);
    let (mut text, mut records) = (Vec::new(), Vec::new());
    for line in 1.. {
        text.clear();
        let len = (&mut reader).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut text)?;
        if len == 0 {
            break;
        }
        if len as u64 > LINE_BYTES_MAX {
            bail!("line {line} is longer than {LINE_BYTES_MAX} bytes");
        }
        records.clear();
        parse(&text, Line { file, line }, &mut records)?;
        records.iter().for_each(&mut take);
    }
    Ok(())
}

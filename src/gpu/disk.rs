//! Pipelines kept on disk, where the backend can: what a driver made of a kernel in one process serves the next.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, Result, file::write_whole};

/// First bytes of a file; the number changes with its form.
const MAGIC: &[u8; 8] = b"subquad1";

/// A device's cache and the file it is kept in.
#[derive(Debug)]
pub(super) struct Disk {
    cache: wgpu::PipelineCache,
    path: PathBuf,
}

impl Disk {
    /// The cache of a device, from its file in the folder where that is there and whole; nothing where the backend has none.
    pub fn open(device: &wgpu::Device, folder: &Path) -> Option<Disk> {
        if !device.features().contains(wgpu::Features::PIPELINE_CACHE) {
            return None;
        }
        let info = device.adapter_info();
        let key = wgpu::util::pipeline_cache_key(&info)?;
        let driver = format!("{} {} {}", info.name, info.driver, info.driver_info);
        let path = folder.join(format!("{key}_{:016x}.bin", hash(driver.as_bytes())));
        let kept = fs::read(&path).ok();
        let descriptor = |data| wgpu::PipelineCacheDescriptor {
            label: Some("subquad"),
            data,
            fallback: true,
        };
        // SAFETY: the data is what `save` got from a device of this adapter and driver, by the file's name, unchanged, by its
        // hash; wgpu and the driver compare their own marks in it as well.
        let cache =
            unsafe { device.create_pipeline_cache(&descriptor(kept.as_deref().and_then(unseal))) };
        Some(Disk { cache, path })
    }

    pub fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Writes the file; returns its path, or nothing where the driver gives nothing.
    pub fn save(&self) -> Result<Option<PathBuf>> {
        let Some(data) = self.cache.get_data() else {
            return Ok(None);
        };
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)
            .and_then(|()| write_whole(&self.path, &seal(&data)))
            .map_err(|error| Error::File {
                path: self.path.display().to_string(),
                message: format!("cannot be written ({})", error.kind()),
            })?;
        Ok(Some(self.path.clone()))
    }
}

/// Data with a mark and its hash in front.
fn seal(data: &[u8]) -> Vec<u8> {
    [MAGIC, &hash(data).to_le_bytes(), data].concat()
}

/// The data of a sealed file, if it is whole.
fn unseal(file: &[u8]) -> Option<&[u8]> {
    let (kept, data) = file.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*kept) == hash(data)).then_some(data)
}

/// FNV-1a of 64 bits: the same in every build, which the standard library's hashes do not promise.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_told() {
        let file = seal(b"what a driver wrote");
        assert_eq!(unseal(&file), Some(b"what a driver wrote".as_slice()));
        assert_eq!(unseal(&seal(b"")), Some(b"".as_slice()));
        for len in 0..file.len() {
            assert_eq!(unseal(&file[..len]), None, "cut at {len}");
        }
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert_eq!(unseal(&damaged), None, "a bit of byte {at}");
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // Fowler, Noll, Vo: test vectors of FNV-1a.
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
    }
}

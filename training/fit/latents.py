"""Latents of all training frames, encoded once and kept beside the run: training then never decodes a picture again.

For autoencoders of single frames. The store's name tells which weights and which dataset it was made of, so several
runs may share a directory. Frames are decoded and encoded piece by piece; an interrupted encoding goes on where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from egowm_core.errors import DataError
from egowm_core.models.registry import TrainedAutoencoder, autoencoder_fields
from egowm_core.models.vae import to_unit_range
from training.fit.clips import ClipDataset
from training.fit.loader import ahead
from training.fit.mixture import Source
from training.fit.timing import Every

_DECODER = ("network.decoder.", "network.post_quant_conv.", "tiny_decoder.")  # may still be in training
_NOTED_EVERY_S = 10.0
Store = NDArray[np.float16]


def latent_stores(
    vae: TrainedAutoencoder,
    sources: Iterable[Source],
    directory: Path,
    *,
    write: bool = True,
    wait: Callable[[], None] = lambda: None,
    workers: int = 0,
    chunk: int = 64,
) -> list[Store]:
    """Of each source the latents (its training frames,C,h,w) float16, memory-mapped from a file in ``directory``.

    Files appear whole or not at all; those of other weights or datasets are removed. Of several processes one has
    ``write``; the others ``wait`` for it.

    Raises:
        DataError: frames that cannot be read, or too little space on the disk.
    """
    sources = list(sources)
    files = {store_path(vae, source, directory): source for source in sources}
    if write and not all(file.exists() for file in files):
        with _sole(directory):
            for file, source in files.items():
                if not file.exists():  # another run may have made it meanwhile
                    _encode(vae, source.training, file, chunk, workers)
            for other in directory.glob("latents_*"):
                if other not in files:
                    other.unlink(missing_ok=True)
    wait()
    return [_opened(store_path(vae, source, directory)) for source in sources]


def store_path(vae: TrainedAutoencoder, source: Source, directory: Path) -> Path:
    """Where the latents of a source are kept: named by the encoder, the dataset and which of its episodes."""
    digest = hashlib.sha256(f"{encoder_digest(vae)} {source.dataset.fingerprint()}".encode())
    digest.update(repr([episode.index for episode in source.training.episodes]).encode())
    return directory / f"latents_{digest.hexdigest()[:16]}.npy"


def store_bytes(vae: TrainedAutoencoder, data: ClipDataset) -> int:
    """Of a store on the disk."""
    camera = data.embodiment.camera()
    cells = (camera.height // vae.downscale) * (camera.width // vae.downscale)
    return data.num_frames * vae.latent_channels * cells * np.dtype(np.float16).itemsize


def encoder_digest(vae: TrainedAutoencoder) -> str:
    """Of what latents depend on: the configuration and the encoder's weights."""
    digest = hashlib.sha256(json.dumps(autoencoder_fields(vae), sort_keys=True, default=str).encode())
    for name, value in sorted(vae.state_dict().items()):
        if not name.startswith(_DECODER):
            digest.update(name.encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class _Pieces:
    """``pieces[number]``: some consecutive frames of one episode; the pieces are all frames in order."""

    def __init__(self, data: ClipDataset, chunk: int) -> None:
        self._data = data
        self.spans = [
            (number, start, min(start + chunk, len(episode)))
            for number, episode in enumerate(data.episodes)
            for start in range(0, len(episode), chunk)
        ]

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        episode, start, stop = self.spans[number]
        return self._data.episodes[episode].frames(start, stop)


@torch.inference_mode()
def _encode(vae: TrainedAutoencoder, data: ClipDataset, file: Path, chunk: int, workers: int) -> None:
    """Fill ``file`` by way of a partial one and a note of how many pieces are done."""
    partial, note = file.with_suffix(".partial"), file.with_suffix(".done")
    device = next(vae.parameters()).device
    pieces = _Pieces(data, chunk)
    done = min(_noted(note), len(pieces.spans)) if partial.exists() else 0
    store: NDArray[np.float16] | None = None
    due = Every(_NOTED_EVERY_S)
    bar = tqdm(initial=done, total=len(pieces.spans), desc="encoding", unit="piece")
    for number, frames in enumerate(ahead(pieces, done, len(pieces.spans), workers=workers), start=done):
        batch = torch.from_numpy(frames).to(device)
        latents = vae.encode(to_unit_range(batch)[:, None])[:, 0].half().cpu().numpy()
        if store is None:
            shape = (data.num_frames, *latents.shape[1:])
            mode = "r+" if done else "w+"
            store = np.lib.format.open_memmap(partial, mode=mode, dtype=np.float16, shape=None if done else shape)
        episode, start, stop = pieces.spans[number]
        first = int(data.offsets[episode])
        store[first + start : first + stop] = latents
        bar.update()
        if due():
            _note(store, note, number + 1)
    bar.close()
    if store is not None:
        store.flush()  # type: ignore[attr-defined]
    partial.replace(file)
    note.unlink(missing_ok=True)


def _note(store: Store, note: Path, done: int) -> None:
    """What is noted lies on the disk: first the latents, then the note."""
    store.flush()  # type: ignore[attr-defined]
    fresh = note.with_suffix(".noting")
    fresh.write_text(str(done))
    fresh.replace(note)


def _noted(note: Path) -> int:
    try:
        return int(note.read_text())
    except (OSError, ValueError):
        return 0


def _opened(file: Path) -> Store:
    try:
        store: Store = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {file} ({error}); remove it, it is made again") from error
    return store


@contextmanager
def _sole(directory: Path) -> Iterator[None]:
    """One process at a time, of all runs that share the directory; a killed one's hold ends with it."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

"""Latents of a whole dataset, encoded once and kept beside the run: training then never touches a picture.

For autoencoders of single frames. The store's name tells which weights and which frames it was made of, so several
runs may share a directory, and other weights or another dataset make another store.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from egowm_core.models.registry import TrainedAutoencoder, autoencoder_fields
from egowm_core.models.vae import to_unit_range
from training.clips import ClipDataset

_DECODER = ("network.decoder.", "network.post_quant_conv.", "tiny_decoder.")  # may still be in training


def encode_frames(vae: TrainedAutoencoder, data: ClipDataset, directory: Path, *, batch_size: int = 64) -> Tensor:
    """Latents (number of frames,C,h,w) float16 of all frames, memory-mapped from a file in ``directory``.

    The file appears whole or not at all; stores of other weights or frames are removed.
    """
    file = directory / f"latents_{_key(vae, data)}.npy"
    if not file.exists():
        partial = directory / f"latents.{os.getpid()}.partial"
        try:
            _write(vae, data, partial, batch_size)
            partial.replace(file)
        finally:
            partial.unlink(missing_ok=True)
        for other in directory.glob("latents_*.npy"):
            if other != file:
                other.unlink(missing_ok=True)
    return torch.from_numpy(np.load(file, mmap_mode="c"))


@torch.inference_mode()
def _write(vae: TrainedAutoencoder, data: ClipDataset, path: Path, batch_size: int) -> None:
    device = next(vae.parameters()).device
    store: np.memmap[tuple[int, ...], np.dtype[np.float16]] | None = None
    written = 0
    for frames in tqdm(data.all_frames(), desc="encoding", unit="episode"):
        for start in range(0, len(frames), batch_size):
            batch = torch.from_numpy(np.array(frames[start : start + batch_size])).to(device)
            latents = vae.encode(to_unit_range(batch)[:, None])[:, 0].half().cpu().numpy()
            if store is None:
                shape = (data.num_frames, *latents.shape[1:])
                store = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
            store[written : written + len(latents)] = latents
            written += len(latents)
    if store is not None:
        store.flush()


def _key(vae: TrainedAutoencoder, data: ClipDataset) -> str:
    """Of the encoder's configuration and weights, and of the frames: their places, sizes and times of writing."""
    digest = hashlib.sha256(json.dumps(autoencoder_fields(vae), sort_keys=True, default=str).encode())
    for episode, length in zip(data.episodes, np.diff(data.offsets), strict=True):
        status = (episode.path / "frames.npy").stat()
        digest.update(repr((str(episode.path), int(length), status.st_size, status.st_mtime_ns)).encode())
    for name, value in sorted(vae.state_dict().items()):
        if not name.startswith(_DECODER):
            digest.update(name.encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]

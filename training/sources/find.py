"""The recordings below some paths, each with a name of its own: bags, and the episodes of LeRobot datasets.

A source is a place and a name, cheap to make and to send to another process; what is in it, its ``open`` finds out.
Knows where recordings lie; reads no message and no row.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from egowm_core.data.bag import Bag
from egowm_core.data.containers import FILE_SUFFIXES
from egowm_core.data.values import Recording
from egowm_core.errors import DataError
from training.dataset.layout import INFO
from training.sources.lerobot import LeRobotEpisode
from training.sources.lerobot_meta import EpisodeFiles, is_dataset, read_meta

_BAG = "metadata.yaml"
_SAMPLED = 65536  # bytes at either end of a file that tell it from others

Place = tuple[Path, int | None]


@dataclass(frozen=True)
class Source:
    """A recording by its name in a dataset, ``path`` that of the bag or of the dataset that holds the ``episode``."""

    name: str
    path: Path
    episode: int | None = None

    def open(self) -> Recording:
        """The recording, to be used as a context manager. Raises DataError for a dataset without readable episodes."""
        if self.episode is not None:
            return LeRobotEpisode(self.path, self.episode)
        if is_dataset(self.path):
            raise _nothing_present(self.path)
        return Bag(self.path)

    def size_bytes(self) -> int:
        """Bytes on the disk; of a file that several episodes share, this one's part. Raises OSError or DataError."""
        if self.episode is None:
            return sum(file.stat().st_size for file in self._files())
        meta = read_meta(self.path)
        files = _files_of(meta.episode(self.episode))
        return round(sum(file.stat().st_size * meta.share(self.episode, file) for file in files))

    def fingerprint(self) -> str:
        """64 hex digits that change when the recording does: from the sizes, heads and tails of its files.

        Of an episode: its rows, its videos, and meta/'s words on it. Raises OSError or DataError.
        """
        digest = hashlib.sha256()
        if self.episode is not None:
            files = read_meta(self.path).episode(self.episode)
            cuts = {name: [piece.start_s, piece.stop_s] for name, piece in sorted(files.videos.items())}
            digest.update(json.dumps([files.index, files.length, files.tasks, cuts]).encode())
        for file in self._files():
            size = file.stat().st_size
            digest.update(f"{file.relative_to(self.path).as_posix()} {size}\n".encode())
            with file.open("rb") as opened:
                digest.update(opened.read(_SAMPLED))
                opened.seek(max(_SAMPLED, size - _SAMPLED))
                digest.update(opened.read(_SAMPLED))
        return digest.hexdigest()

    def _files(self) -> list[Path]:
        if self.episode is not None:
            return [self.path / INFO, *_files_of(read_meta(self.path).episode(self.episode))]
        if is_dataset(self.path):
            return [self.path / INFO]
        return sorted(f for f in self.path.rglob("*") if f.is_file()) if self.path.is_dir() else [self.path]


def find_sources(inputs: Sequence[Path | str], *, besides: Path | str | None = None) -> list[Source]:
    """The recordings at or below ``inputs``, sorted by name; names are unique and depend on these recordings alone.

    A recording goes by its directory's name, or its file's without suffix, an episode by ``DATASET__episode_000012``;
    where two are the same, the folders above are put before them. A dataset that cannot be read, or of which no episode
    is here, is one source whose ``open`` says why. What lies in ``besides``, the directory to be written, is left out.

    Raises:
        DataError: an input does not exist, cannot be read, or holds no recording.
    """
    left_out = None if besides is None else Path(besides).resolve()
    places = {place for item in inputs for place in _places_at(Path(item), left_out)}
    found = [Source(name, *place) for place, name in unique_names(places).items()]
    return sorted(found, key=lambda source: source.name)


def unique_names(places: Collection[Place]) -> dict[Place, str]:
    """A name for each place, by ``find_sources``' rule. Raises DataError where not even all folders tell two apart."""
    own = _own_names(places)
    names, depth = dict(own), 0
    while (counts := Counter(names.values())) and max(counts.values()) > 1:
        doubled = [place for place in places if counts[names[place]] > 1]
        depth += 1
        if all(depth > len(path.parts) for path, _ in doubled):
            alike = " and ".join(sorted(str(path) for path, _ in doubled))
            raise DataError(f"{alike} would get the same name {names[doubled[0]]!r}; rename one of them")
        for path, episode in doubled:
            names[path, episode] = "__".join([*path.parent.parts[1:][-depth:], own[path, episode]])
    return names


def _own_names(places: Collection[Place]) -> dict[Place, str]:
    """Names without the folders above: a file's with its suffix where another of the same name lies beside it."""
    stems = {path: path.stem if path.is_file() else path.name for path, _ in places}
    beside = Counter((path.parent, stem) for path, stem in stems.items())
    names = {path: path.name if beside[path.parent, stem] > 1 else stem for path, stem in stems.items()}
    return {
        (path, episode): names[path] if episode is None else f"{names[path]}__episode_{episode:06d}"
        for path, episode in places
    }


def _places_at(root: Path, left_out: Path | None) -> list[Place]:
    if not root.exists():
        raise DataError(
            f"{root} does not exist; give a bag directory, a .mcap file, a LeRobot dataset or a folder of them"
        )
    try:
        found = list(_places(root.resolve(), left_out))
    except OSError as error:
        raise DataError(f"cannot look into {root}: {error}; check its permissions") from error
    if not found:
        raise DataError(
            f"{root} holds no recording; expected {_BAG} (a bag), {', '.join(FILE_SUFFIXES)} files"
            f" or {INFO} (a LeRobot dataset)"
        )
    return found


def _places(root: Path, left_out: Path | None) -> Iterator[Place]:
    waiting, seen = [root], set[Path]()  # links may lead in circles
    while waiting:
        path = waiting.pop()
        if path in seen or path == left_out:
            continue
        seen.add(path)
        if path.is_file():
            if path.suffix in FILE_SUFFIXES:
                yield path, None
        elif (path / _BAG).is_file():
            yield path, None
        elif is_dataset(path):
            try:
                present: Sequence[int | None] = read_meta(path).present()
            except DataError:  # told when it is opened, so that it does not stop the others
                present = ()
            yield from ((path, episode) for episode in present or (None,))
        elif path.is_dir():
            waiting += [item.resolve() for item in path.iterdir() if not item.name.startswith(".")]


def _files_of(episode: EpisodeFiles) -> list[Path]:
    return [episode.data, *(piece.path for _, piece in sorted(episode.videos.items()) if piece.path.is_file())]


def _nothing_present(root: Path) -> DataError:
    meta = read_meta(root)  # says what is wrong with a meta/ that cannot be read
    first = f", such as {meta.episode(meta.indices[0]).data.relative_to(root)}" if meta.indices else ""
    return DataError(
        f"{root} has meta/ of {len(meta.indices)} episodes, but of none both rows and a video are here{first};"
        " fetch the files of some"
    )

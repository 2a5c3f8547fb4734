"""What of a recording is worth training on, and why the rest is not.

Curators of video for world models (NVIDIA's Cosmos has the best known one) split footage into shots, filter those by
motion, picture quality and overlaid text, caption them, drop near-duplicates by the distance of embeddings, and shard
the rest. Recordings of robots need less and more: there are no titles and hardly any shots, the task is known, sharding
is the dataset's. But a clip counts only if its actions explain its pictures, so that a robot standing still, a frozen
camera stream or a splice in a log are what to look for. That is this package:

    config       all thresholds, with their units; presets ``none`` and ``standard``
    looks        what a single picture says: brightness, contrast, sharpness, colours
    cuts         where the picture jumps to another scene
    splitter     a stream of ticks into runs worth keeping: cuts, pauses, frozen and unusable pictures
    quality      an episode's figures, and whether they suffice
    embedding    an episode as a vector;  duplicates: episodes that are there already

Faces are blurred on the way in by ``egowm_core.faces``, which robots use, too.

Whatever is left out is an ``Exclusion`` that names the reason, the value measured and the limit it was held against.
"""

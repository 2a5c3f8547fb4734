"""From recordings and live messages to samples: bag, images, preprocess, sync, window, episode, normalize.

Needs numpy and OpenCV only; the dataset and the live node run the very same code.
"""

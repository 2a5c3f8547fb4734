"""The action ``imagine``: alternatives rolled out from the live context, streamed and ranked; server and clients."""

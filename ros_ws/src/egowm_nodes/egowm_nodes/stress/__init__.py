"""``egowm-stress``: floods, hostile messages, kill -9, cycles and soaks against the real nodes, with figures."""

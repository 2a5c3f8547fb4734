"""Which nodes run, with which parameters and names; as launch actions, too."""

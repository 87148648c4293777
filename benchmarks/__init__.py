"""What steadypix costs, measured beside its peers and the floor of the machine."""

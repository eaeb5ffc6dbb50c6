"""How fast the service is beside others, and how its statements grow with the data. Needs Linux, for /proc."""

"""The services that the core offers to plugins, so that they open no files and sockets: clock, DNS, store, next hop."""

"""What the core offers to plugins: a clock, DNS, a store and the next hop. Plugins open nothing by themselves."""

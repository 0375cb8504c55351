"""Lambda and Azure Functions on this machine: the platforms' own runtimes, and stand-ins for what is around them."""

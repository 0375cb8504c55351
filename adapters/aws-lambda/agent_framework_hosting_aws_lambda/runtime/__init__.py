"""Our own runtime: speaks Lambda's Runtime API in place of the stock one, streams, and works after the answer."""

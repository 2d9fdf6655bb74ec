"""A daemon that waits for work."""
# corpus: pattern = "no_growth"
# corpus: healthy = true
# corpus: seconds = 10
# corpus: python = "3.8"

import kit

kit.ready()
kit.idle()

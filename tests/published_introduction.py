"""A text that many have: the introduction of 514 characters that the author of web3.0-test has published."""

# evan-brass/web3.0-test, Introductions.md
PUBLISHED = """
AQMViPmAD+mYTVZsVTW5jzLQjjnHJl
j6qn/lDmJoneVxXwwILfcwmg7JA5MZ
OOq09lI7V+3fVNFBrsp3IIiU4pQFXS
wpC5F1oDL26rvs3EwN8LWZ4L0dZYeA
Qpfx9lVMSuAlraqYTs+uBoorgSYusj
QWNc7NboIwAABgb3saKA4Xh7fW6Jxx
hYCO4cVQ+kMrLZV2wt5hD71sya7f6Z
vB74fWe+tWAPBGh6LvRcdqK13Y9PqX
gGOGAsqNrY0eEaxWMIPJnGyUWgbYO/
lEp7K9US0idNKCr3fVI9sWLymfugjy
3Zkoy7ayfNvfMrif2rS4vlfyFfG0WK
S5gvIrKPFxyeNuzjfK5EOByVneTyO/
KkRNZhMke3rxSXw4DHhq1nK4fDwvyD
HHVJLZf15I336SvzS71yYgQ+0cGBmJ
wyjwzPkf+/viJy8nY0UKpCuMEx49sV
F4VZzsKR4S6cBqRC9/fnBTUF5lghyb
YYfYb5qyV/S1RSoNpAasN4QMP0GzVd
V04A
"""

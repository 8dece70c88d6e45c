package draw

import "unicode"

// How wide a text will be is not known: the viewer picks the font behind "sans-serif" and
// "monospace". The tables below hold, for each character, the widest of the fonts that
// are behind these names on common systems (DejaVu Sans, which is as wide as Verdana, and
// Liberation Sans, which is as wide as Arial and Helvetica), so that a box that fits the
// estimate fits the text.

// ascent and descent are the parts of a line above and under its baseline, in em; those of
// DejaVu Sans, the tallest of the above.
const (
	ascent  = 0.93
	descent = 0.24
	mono    = 0.603 // advance of every character of a fixed-width font, in em
	wide    = 1.03  // of a CJK character, and of an em dash or an arrow in some fonts
)

// Advance widths of the characters from space to tilde, in thousandths of an em.
var (
	regular = [95]uint16{
		318, 401, 460, 838, 637, 951, 780, 275, 391, 391, 500, 838, 318, 361, 318, 337, 637, 637, 637,
		637, 637, 637, 637, 637, 637, 637, 337, 337, 838, 838, 838, 557, 1016, 684, 686, 723, 770, 667,
		611, 778, 752, 295, 500, 667, 558, 863, 748, 788, 667, 788, 723, 667, 611, 732, 684, 989, 685,
		667, 685, 391, 337, 391, 838, 557, 500, 613, 635, 550, 635, 616, 352, 635, 634, 278, 278, 580,
		278, 975, 634, 612, 635, 635, 412, 521, 392, 634, 592, 818, 592, 592, 525, 637, 337, 637, 838,
	}
	bold = [95]uint16{
		349, 456, 521, 838, 696, 1002, 872, 307, 457, 457, 523, 838, 380, 415, 380, 366, 696, 696, 696,
		696, 696, 696, 696, 696, 696, 696, 400, 400, 838, 838, 838, 611, 1000, 774, 763, 734, 830, 684,
		684, 821, 837, 372, 557, 775, 638, 996, 837, 850, 733, 850, 770, 721, 683, 812, 774, 1103, 771,
		725, 725, 457, 366, 457, 838, 557, 500, 675, 716, 593, 716, 679, 435, 716, 712, 343, 343, 665,
		343, 1042, 712, 687, 716, 716, 494, 596, 478, 712, 652, 924, 645, 652, 582, 712, 366, 712, 838,
	}
)

// width returns an upper estimate of how wide text is in style s, in pixels.
func width(text string, s style) float64 {
	w := 0.0
	for _, r := range text {
		w += advance(r, s)
	}
	return w * s.size
}

// advance is the width of one character in em.
func advance(r rune, s style) float64 {
	switch {
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	case s.mono && r < 0x2000:
		return mono
	case s.mono:
		return 2 * mono
	case ' ' <= r && r <= '~' && s.bold:
		return float64(bold[r-' ']) / 1000
	case ' ' <= r && r <= '~':
		return float64(regular[r-' ']) / 1000
	case r == '·':
		return 0.38
	case r == '–':
		return 0.56
	}
	return wide
}

// shorten cuts text to at most n characters, the last of them an ellipsis. A wide character
// counts as two.
func shorten(text string, n int) string {
	used, fits := 0, 0
	for i, r := range text {
		if used < n {
			fits = i // a cut here leaves room for the ellipsis
		}
		used++
		if r >= 0x1100 && unicode.In(r, unicode.Han, unicode.Hangul, unicode.Hiragana, unicode.Katakana) {
			used++
		}
	}
	if used <= n {
		return text
	}
	return text[:fits] + "…"
}

package main

import "k8s.io/apimachinery/pkg/util/resourceversion"

// damage is what we did to a Secret. Whoever watches gets its versions late, and the one before our write perhaps after it.
type damage struct {
	// underWay says that we are writing, and do not know the version yet.
	underWay bool
	// version is the last one that is our work.
	version string
	// open says that nobody has made it good yet.
	open bool
}

// begin notes that the next version may be our work.
func (d *damage) begin() { d.open, d.underWay = true, true }

// done notes which version was.
func (d *damage) done(version string) { d.open, d.underWay, d.version = true, false, version }

// see takes in a version of the Secret and reports whether we are to blame for what it lacks. One that is newer than our
// work and lacks nothing ends that.
func (d *damage) see(version string, whole bool) bool {
	blamed := d.open
	if d.open && whole && !d.underWay && isNewer(version, d.version) {
		d.open = false
	}
	return blamed
}

// isNewer reports whether a version came after another one.
func isNewer(version, other string) bool {
	order, err := resourceversion.CompareResourceVersion(version, other)
	return err == nil && order > 0
}

package checkout

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/tdewolff/minify/v2"
	"github.com/tdewolff/minify/v2/css"
	"github.com/tdewolff/minify/v2/js"
	"github.com/tdewolff/minify/v2/json"
)

// The element and the look it shares with the pages. A browser can run these files
// as they are; there is no step between them and this package. What is sent has
// lost its comments, and names the version in the addresses of its modules.
//
//go:embed web/*.js web/*.css
var webFiles embed.FS

// An asset is a file that browsers may keep.
type asset struct {
	contentType string
	content     []byte
	etag        string
}

// version names the content of all assets together, so that files which belong
// together are never mixed with those of another version.
var version = sync.OnceValue(assetVersion)

// assets are the files by name; those of the languages begin with "messages/".
var assets = sync.OnceValue(readAssets)

var contentTypes = map[string]string{
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".json": "application/json",
}

// eachAsset calls f for every file in a fixed order.
func eachAsset(f func(name string, content []byte)) {
	for _, dir := range []struct {
		files        embed.FS
		path, prefix string
	}{{webFiles, "web", ""}, {messageFiles, "messages", "messages/"}} {
		entries, _ := dir.files.ReadDir(dir.path) // embedded
		for _, e := range entries {
			content, err := dir.files.ReadFile(dir.path + "/" + e.Name())
			if err != nil {
				panic(fmt.Sprintf("assets: %v", err)) // embedded, so a fault of the build
			}
			f(dir.prefix+e.Name(), content)
		}
	}
}

func assetVersion() string {
	all := sha256.New()
	eachAsset(func(name string, content []byte) {
		fmt.Fprintf(all, "%s %d\n", name, len(content))
		all.Write(content)
	})
	return hex.EncodeToString(all.Sum(nil)[:8])
}

// moduleImport is an import of one of the modules by another.
var moduleImport = regexp.MustCompile(`(from '\./[a-z-]+\.js)'`)

// ofPages are the texts that only the server's own pages have, on a line each.
var ofPages = regexp.MustCompile(`(?m)^ *"problem\.(retry|back)": .*,\n`)

func readAssets() map[string]asset {
	m := minify.New()
	m.AddFunc(".js", js.Minify)
	m.AddFunc(".css", css.Minify)
	m.AddFunc(".json", json.Minify)
	list := make(map[string]asset)
	eachAsset(func(name string, content []byte) {
		ext := path.Ext(name)
		if ext == ".js" {
			content = moduleImport.ReplaceAll(content, []byte(`${1}?v=`+version()+`'`))
		}
		if ext == ".json" {
			content = ofPages.ReplaceAll(content, nil)
		}
		content, err := m.Bytes(ext, content)
		if err != nil {
			panic(fmt.Sprintf("assets: %s: %v", name, err)) // embedded, so a fault of the build
		}
		sum := sha256.Sum256(content)
		list[name] = asset{contentTypes[ext], content, `"` + hex.EncodeToString(sum[:8]) + `"`}
	})
	return list
}

// assetURL is the address of an asset. It changes with the content, so that the file
// itself can be kept for as long as a browser likes.
func assetURL(prefix, name string) string { return prefix + "/" + name + "?v=" + version() }

// WriteAsset serves a file of the checkout. The texts can be asked for in any
// language; who asks for one that is not there gets the nearest. It reports whether
// there is such a file.
//
// A module of another version is not there: a page that still has an old one would mix
// the two, and is better off with its plain form.
func WriteAsset(w http.ResponseWriter, r *http.Request, name string) bool {
	if tag, ok := strings.CutPrefix(name, "messages/"); ok {
		lang, found := match(strings.TrimSuffix(tag, ".json"))
		if !found {
			lang = fallback
		}
		name = "messages/" + lang + ".json"
	}
	a, ok := assets()[name]
	asked := r.URL.Query().Get("v")
	if !ok || asked != "" && asked != version() && path.Ext(name) == ".js" {
		return false
	}
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("ETag", a.etag)
	h.Set("Cache-Control", "public, max-age=3600")
	if asked == version() {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(a.content))
	return true
}

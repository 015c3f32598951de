package inventory

import (
	"strings"
	"unicode"
)

// columns are the columns of a sheet that WriteCSV writes, in this order. The first are the device's, and named as the site file's keys.
var columns = []string{
	"name", "hostname", "type", "hardware-address", "client-identifier", "circuit-id", "remote-id", "address", "dhcp", "installed",
	"publish", "cluster", "description", "manufacturer", "model", "serial-number", "station-name", "location",
	"ae-title", "port", "protocol", "application-name", "path", "priority", "weight", "txt",
}

// firstOfApplication is the first of the application's columns.
const firstOfApplication = "ae-title"

// aliases are what people call the columns, as fold leaves it: English first, then German, French, Spanish and Italian.
var aliases = map[string]string{
	"name":              "device devicename dicomdevicename system systemname machine machinename modalityname equipment asset gerät geraet gerätename geraetename gerätebezeichnung bezeichnung nom nomappareil nombre equipo nome",
	"hostname":          "host dnsname fqdn computername computer netbiosname rechnername rechner hote nomdhote",
	"type":              "modality primarydevicetype devicetype modalitytype mod modalitat modalität gerätetyp geraetetyp typ modalite modalité modalidad modalita modalità tipo",
	"hardware-address":  "mac macaddress macaddr ethernet ethernetaddress hwaddr hwaddress physicaladdress lanmac mac1 macadresse adressemac adresse-mac direccionmac indirizzomac hardwareadresse",
	"client-identifier": "clientid dhcpclientid option61",
	"circuit-id":        "circuitid option821 switchport",
	"remote-id":         "remoteid option822",
	"address":           "ip ipaddress ipaddr ipv4 ipv4address ip4 staticip fixedip ipadresse adresseip direccionip indirizzoip ipadr",
	"dhcp":              "usesdhcp speaksdhcp addressing addressmode ipmode",
	"installed":         "active inuse live aktiv installiert actif",
	"publish":           "published",
	"cluster":           "applicationcluster",
	"description":       "comment comments remark remarks note notes beschreibung bemerkung bemerkungen kommentar commentaire remarque descripción descrizione",
	"manufacturer":      "vendor make brand hersteller fabricant fabricante produttore",
	"model":             "modelname manufacturermodelname product producttype modell modele modèle modelo modello",
	"serial-number":     "serial serialno serialnr sn deviceserialnumber seriennummer seriennr numerodeserie",
	"station-name":      "station stationsname nomdestation",
	"location":          "room building site place department ward raum standort ort abteilung gebäude gebaude salle lieu emplacement sala ubicacion posizione",
	"ae-title":          "aet ae aetitel aetitle dicomaet dicomaetitle calledaet calledaetitle applicationentity applicationentitytitle titreae",
	"port":              "portnumber portno portnr dicomport tcpport listenport listeningport puerto porta",
	"protocol":          "service protokoll protocole protocolo",
	"application-name":  "instancename servicename friendlyname application anwendung",
	"path":              "dicomwebpath webpath url",
	"priority":          "srvpriority prioritat priorität",
	"weight":            "srvweight",
	"txt":               "txtrecords",
	"tls":               "dicomtls secure encrypted verschlusselt verschlüsselt",
}

// known are the columns by the folded names that they go by.
var known = func() map[string]string {
	m := map[string]string{}
	for column, names := range aliases {
		m[fold(column)] = column
		for name := range strings.FieldsSeq(names) {
			m[fold(name)] = column
		}
	}
	return m
}()

// fold leaves the letters and digits of a header, in lower case: "AE-Title" and "ae title" are one name.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
}

// columnOf says which column a header means, and which one of several alike: "AE title 2" is the ae-title of the second application.
func columnOf(header string) (column string, number int) {
	f := fold(header)
	if i := strings.IndexAny(header, "(["); i > 0 && known[f] == "" {
		f = fold(header[:i]) // "Port (DICOM)"
	}
	if c := known[f]; c != "" {
		return c, 1
	}
	short := strings.TrimRight(f, "0123456789")
	if digits := f[len(short):]; len(digits) == 1 && digits != "0" && known[short] != "" {
		return known[short], int(digits[0] - '0')
	}
	return "", 0
}
